"""Where events come from: files, the simulator and public data sets, written to Kafka."""
