"""What an update does before it declares a resource: ask the hosts, clear what a killed update left."""
