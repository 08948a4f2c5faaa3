"""Layer names that try to be obeyed: by a terminal, Rich, Markdown, HTML, a spreadsheet, CI."""

HOSTILE = {
    "escape": "w\x1b[2J\x1b[31mred",
    "hyperlink": "w\x1b]8;;http://evil.example\x07click\x1b]8;;\x07",
    "newline": "w\nlm_head.weight  0%\r\n",
    "right_to_left": "w\u202egnp.exe",
    "rich_tag": "[red]w[/red]",
    "rich_unbalanced": "blocks[0].w[/]",
    "html": '<b onmouseover=alert(1)>&"]]>',
    "formula": "=cmd|' /C calc'!A0",
    "workflow_command": "::error file=a::b",
    "markdown": "a|b`c``d\\|e",
    "nul": "w\x00x",
    "c1": "w\x9b31mx\x85y",
    "very_long": "layer." * 2000 + "weight",
}
