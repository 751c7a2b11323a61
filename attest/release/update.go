package release

// UpdateFiles are the files that a machine fetches which is updated in place to the
// release, the image first: they lie beside its disk.
func (m *Manifest) UpdateFiles() []File {
	all := []File{m.UKI}
	if p := m.Payload; p != nil && p.Root != nil {
		all = append(all, p.Root.File)
	}
	return all
}

// UpdateFile is the one of UpdateFiles with that name.
func (m *Manifest) UpdateFile(name string) (f File, ok bool) {
	for _, f := range m.UpdateFiles() {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}
