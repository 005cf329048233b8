"""What an enemy may hand us: models, certificates, directories and bytes made to harm."""
