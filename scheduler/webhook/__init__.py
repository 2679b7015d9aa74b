"""The mutating webhook: turns what users write into what the cluster stores. It rewrites and never refuses."""
