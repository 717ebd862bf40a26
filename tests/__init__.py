"""A package, since textstat, which the docs need, installs another of this name, and namespaces come last."""
