package providertest

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

var imageCases = []testCase{
	{name: "image-can-be-repeated", check: func(t T, s *suite) {
		for range 2 {
			if err := s.Provider.EnsureImage(t.Context(), s.Image, nil); err != nil {
				t.Fatalf("EnsureImage: %v", err)
			}
		}
	}},
	{name: "image-reports-its-progress", check: imageProgress},
	{name: "image-with-another-digest-is-refused", check: func(t T, s *suite) {
		s.refusesImage(t, func(i *providers.Image) { i.SHA256[0] ^= 1 })
	}},
	{name: "image-shorter-than-announced-is-refused", check: func(t T, s *suite) {
		s.refusesImage(t, func(i *providers.Image) { i.Bytes++ })
	}},
	{name: "image-longer-than-announced-is-refused", check: func(t T, s *suite) {
		s.refusesImage(t, func(i *providers.Image) { i.Bytes-- })
	}},
	{name: "image-that-is-not-there-is-refused", check: func(t T, s *suite) {
		s.refusesImage(t, func(i *providers.Image) { i.Path = filepath.Join(t.TempDir(), "none") })
	}},
	{name: "image-of-a-release-never-changes", check: imageConflicts},
	{name: "image-at-once-is-one", check: imageAtOnce},
	{name: "image-given-up-can-be-taken-up", check: imageGivenUp},
}

func imageProgress(t T, s *suite) {
	var last, total int64
	err := s.Provider.EnsureImage(t.Context(), s.Image, func(done, of int64) {
		if done < last || done > of {
			t.Errorf("progress went from %d to %d of %d", last, done, of)
		}
		last, total = done, of
	})
	if err != nil {
		t.Fatalf("EnsureImage: %v", err)
	}
	if last != s.Image.Bytes || total != s.Image.Bytes {
		t.Errorf("progress ended at %d of %d, want %d", last, total, s.Image.Bytes)
	}
}

// refusesImage checks that an image spoiled in one respect is refused, and that
// nothing can be made from it.
func (s *suite) refusesImage(t T, spoil func(*providers.Image)) {
	t.Helper()
	b := s.bench(t)
	wrong := s.Image
	wrong.Release = attest.ReleaseDigest(attest.Sum([]byte(newID())))
	spoil(&wrong)
	wantCode(t, "EnsureImage", s.Provider.EnsureImage(t.Context(), wrong, nil), providers.CodeInvalid)
	req := b.request()
	req.Spec.Release = wrong.Release
	_, err := s.Provider.Create(t.Context(), req)
	wantCode(t, "Create from the refused image", err, providers.CodeInvalid)
}

func imageConflicts(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	disk := []byte("another disk of the same release")
	other := s.Image
	other.Path = filepath.Join(t.TempDir(), "other")
	other.SHA256, other.Bytes = attest.Sum(disk), int64(len(disk))
	if err := os.WriteFile(other.Path, disk, 0o600); err != nil {
		t.Fatalf("writing a disk: %v", err)
	}
	wantCode(t, "EnsureImage", s.Provider.EnsureImage(t.Context(), other, nil), providers.CodeConflict)
	b.create()
}

func imageAtOnce(t T, s *suite) {
	const callers = 8
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { errs[i] = s.Provider.EnsureImage(t.Context(), s.Image, nil) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && providers.CodeOf(err) != providers.CodeAborted {
			t.Errorf("EnsureImage: %v", err)
		}
	}
}

func imageGivenUp(t T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Provider.EnsureImage(ctx, s.Image, func(int64, int64) { cancel() })
	cancel()
	if err != nil {
		t.Logf("given up: %v", err)
	}
	s.bench(t).create()
}
