"""The twin fit: values of the twin from captures of known scenes through known masks, with their uncertainty."""
