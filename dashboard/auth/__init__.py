"""Who may look: sign-in by token, OpenID Connect or a proxy, checked around every request."""
