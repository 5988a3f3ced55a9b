"""Speech out: what a unit language model says, spoken by the vocoder."""
