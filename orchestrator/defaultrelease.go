package orchestrator

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// DefaultRelease is what new machines are made from: the one that the configuration
// names, or the newest where that is zero; all begin with the newest. Never is it one
// that was withdrawn, whose machines every owner's client refuses; withdrawn is nil
// where there is no transparency log. Errors match ErrNotFound.
func DefaultRelease(all []Release, named attest.ReleaseDigest, withdrawn func(attest.ReleaseDigest) bool) (Release, error) {
	for _, r := range all {
		if !named.IsZero() && r.Digest != named {
			continue
		}
		if withdrawn == nil || !withdrawn(r.Digest) {
			return r, nil
		}
	}
	if !named.IsZero() {
		return Release{}, fmt.Errorf("release %s, the configuration's default, which is not withdrawn: %w", named, ErrNotFound)
	}
	return Release{}, fmt.Errorf("any release that is not withdrawn: %w", ErrNotFound)
}
