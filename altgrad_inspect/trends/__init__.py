"""Trends: tables to smoothed series and alerts. Never imports torch.

smooth.py   one series: warm-up, baseline, exponential moving average, state
series.py   which series a ranks and a flips table hold
significance.py, early_warning.py, breaks.py   the statistics: is it a decline, an onset, a break
track.py, peer_ranks.py, transient.py          a rank by itself, among its peers, as a course
rank_view.py   all ranks of a run side by side: which decline is a fault
rules/      one file a rule; `RULES` is all of them
detect.py   `diagnose`, the way in
"""
