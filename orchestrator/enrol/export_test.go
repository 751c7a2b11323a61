package enrol

// Turns is how many machines have a turn to fetch, or wait for one.
func (s *Server) Turns() int {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	return len(s.files.inside)
}
