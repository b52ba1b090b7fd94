package manager

// registry is what the configuration names, but for operators and SIMs, which are in
// the store. It never changes.
type registry struct {
	innerOf map[string]RelayID // by UPF
}

// newRegistry builds the registry of a valid configuration.
func newRegistry(c Config) *registry {
	r := &registry{innerOf: map[string]RelayID{}}
	for _, in := range c.InnerRelays {
		for _, u := range in.UPFs {
			r.innerOf[u] = in.ID
		}
	}
	return r
}
