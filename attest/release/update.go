package release

// UpdateFiles are the files that a machine fetches which is updated in place to the
// release: they lie beside its disk.
func (m *Manifest) UpdateFiles() []File { return []File{m.UKI} }

// UpdateFile is the one of UpdateFiles with that name.
func (m *Manifest) UpdateFile(name string) (f File, ok bool) {
	for _, f := range m.UpdateFiles() {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}
