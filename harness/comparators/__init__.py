"""Looking at two artifacts side by side. Bytes decide; what is here only shows."""
