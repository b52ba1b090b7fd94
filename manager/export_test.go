package manager

// PolicyOf returns how a configuration chooses relays, with the hints of requests.
func PolicyOf(c Config) (func([]RelayStatus, CreateRequest) int, error) {
	p, err := newPolicy(c)
	return func(rs []RelayStatus, req CreateRequest) int { return chooseRelay(p, rs, req) }, err
}
