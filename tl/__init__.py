"""Transfer learning with ImageNet networks in JAX: features, linear probes, fine-tuning."""
