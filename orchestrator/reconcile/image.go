package reconcile

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// uploadPatience is how long a look waits for an upload. One that takes longer
// goes on without it: looks are few, and others need them.
const uploadPatience = 100 * time.Millisecond

// upload is the making available of one image.
type upload struct {
	// ready and total are how far it is, in bytes; zero before it is known.
	ready, total atomic.Int64
	// done is closed at its end; what is below is not read before.
	done     chan struct{}
	err      error
	panicked any
}

// image is a release's at a provider.
type image struct {
	provider string
	release  attest.ReleaseDigest
}

// ensure reports whether the image is available, and sees to it that it will
// be, once however many instances wait for it.
func (r *Reconciler) ensure(ctx context.Context, provider string, rel orchestrator.Release) (present bool, err error) {
	of := image{r.providerName(provider), rel.Digest}
	images := r.Providers[of.provider]
	if images == nil {
		return false, nobody{of.provider}.err()
	}
	r.mu.Lock()
	if r.present[of] {
		r.mu.Unlock()
		return true, nil
	}
	u := r.uploads[of]
	if u == nil {
		u = &upload{done: make(chan struct{})}
		r.uploads[of] = u
		go r.upload(ctx, u, of, images, rel)
	}
	r.mu.Unlock()
	patience := time.NewTimer(uploadPatience)
	defer patience.Stop()
	select {
	case <-patience.C:
		return false, nil
	case <-u.done:
	}
	if u.err != nil || u.panicked != nil {
		// The next look tries again.
		r.forgetUpload(of, u)
	}
	if u.panicked != nil {
		panic(u.panicked)
	}
	return u.err == nil, u.err
}

// upload goes on after the look that began it; its context ends with the work
// of all.
func (r *Reconciler) upload(ctx context.Context, u *upload, of image, images Imager, rel orchestrator.Release) {
	defer func() {
		// A panic belongs to the look that hears of it.
		u.panicked = recover()
		close(u.done)
	}()
	disk, err := rel.Image()
	if err == nil {
		err = images.EnsureImage(ctx, disk, func(ready, total int64) {
			u.ready.Store(ready)
			u.total.Store(total)
		})
	}
	if u.err = err; err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.present[of] = true
		delete(r.uploads, of)
	}
}

func (r *Reconciler) forgetUpload(of image, u *upload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.uploads[of] == u {
		delete(r.uploads, of)
	}
}
