"""What `benchmarks.deploys` is made of: a load, clients, proxies, and the events of a deploy."""
