"""AnalyticsEngine: typed questions about metrics, answered from the marts."""
