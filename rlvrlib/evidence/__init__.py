"""What notebooks show with: claims, figures, interactive figures and the HTML of both. It imports
nothing but the theory."""
