"""What an engine needs to hear live sessions: `pip install dalston-engine[live]`.

`protocol` is what gateways and workers tell each other, and needs nothing of the extra; `speech` is what an
engine is given. All else here is the worker: engines never see it.
"""
