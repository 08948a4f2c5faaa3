"""Trends: tables to smoothed series and alerts. Never imports torch.

smooth.py   one series: warm-up, baseline, exponential moving average, state
series.py   which series a ranks and a flips table hold
rules/      one file a rule; `RULES` is all of them
detect.py   `diagnose`, the way in
"""
