"""What makes parts of the documentation: the reference, the pictures, and the site's links."""
