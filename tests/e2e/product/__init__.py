"""Tessera installed on the real cluster: the chart's objects as rendered, our components as processes of the host."""
