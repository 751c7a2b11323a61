package sdk

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
)

func TestArchitectureIsKnown(t *testing.T) {
	for architecture, want := range map[string]providers.Code{"": "", board.AMD64: "", board.ARM64: providers.CodeInvalid} {
		if err := OnlyAMD64(providers.Image{Architecture: architecture}); providers.CodeOf(err) != want {
			t.Errorf("%q: %v", architecture, err)
		}
	}
	// An image that was imported before there were others is still the same.
	if got := InfoOf(providers.Image{Architecture: board.AMD64}); got.Architecture != "" {
		t.Errorf("amd64 is kept as %q", got.Architecture)
	}
	if got := InfoOf(providers.Image{Architecture: board.ARM64}); got.Architecture != board.ARM64 {
		t.Errorf("arm64 is kept as %q", got.Architecture)
	}
}
