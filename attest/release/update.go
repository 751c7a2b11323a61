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

// ServedFiles are UpdateFiles, and what a machine fetches that runs the release and
// is to make its change of Secure Boot's variables.
func (m *Manifest) ServedFiles() []File {
	all := m.UpdateFiles()
	if c := m.SecureBootChange; c != nil && c.Write != nil {
		all = append(all, *c.Write)
	}
	return all
}

// ServedFile is the one of ServedFiles with that name.
func (m *Manifest) ServedFile(name string) (f File, ok bool) {
	for _, f := range m.ServedFiles() {
		if f.Name == name {
			return f, true
		}
	}
	return File{}, false
}
