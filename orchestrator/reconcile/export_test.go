package reconcile

// Stays is of how many instances the times are kept.
func (r *Reconciler) Stays() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.stays)
}
