"""Units to audio: the unit HiFi-GAN, its synthesis of any length, and its training."""
