"""The dashboard: what the pool holds, who holds it, and why a pod waits, as REST, a live stream and one page."""
