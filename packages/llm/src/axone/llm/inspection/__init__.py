"""Views into a trained model."""
