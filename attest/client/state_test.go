package client

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
)

// Whoever asks for the owner's keys at once gets the same ones, and they are
// nobody else's to read.
func TestKeysAreDrawnOnce(t *testing.T) {
	for range 20 {
		home := ClientState{Dir: filepath.Join(t.TempDir(), "client")}
		const callers = 8
		drawn := make(chan Keys, callers)
		for range callers {
			go func() {
				keys, err := home.Keys(rand.Reader)
				if err != nil {
					t.Error(err)
				}
				drawn <- keys
			}()
		}
		first := <-drawn
		for range callers - 1 {
			if keys := <-drawn; !keys.Owner.Equal(first.Owner) || !keys.Recovery.Equal(first.Recovery) {
				t.Fatal("two callers hold different keys")
			}
		}
		for name, want := range map[string]os.FileMode{".": 0o700, ownerKeyFile: 0o600, recoveryKeyFile: 0o600} {
			info, err := os.Stat(filepath.Join(home.Dir, name))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v, error %v", name, info.Mode(), err)
			}
		}
	}
}
