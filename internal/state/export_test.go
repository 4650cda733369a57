package state

// Compared returns, by chain, the last audit that read both sources.
func (s *State) Compared() []Chain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Chain
	for _, c := range s.chains {
		if r := c.shown(); r.compared() {
			out = append(out, *r)
		}
	}
	return out
}
