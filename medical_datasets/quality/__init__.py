"""What a person would see at once in a folder of images, found before anything is trained on it."""
