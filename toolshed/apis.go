package toolshed

import (
	"context"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/mount"
)

// openAPIs opens each API and gives it what it needs. An API comes into being
// here and nowhere else.
func (r *Root) openAPIs(ctx context.Context) error {
	registerHealth(r.mount("health", mount.Limits{}).API)
	auth.Register(r.mount("auth", mount.Limits{BodyBytes: 64 << 10}).API, r.guard.Tokens)
	return r.openKV(ctx)
}

func (r *Root) openKV(ctx context.Context) error {
	db, err := r.open(ctx, kv.Schema)
	if err != nil {
		return err
	}
	kv.Register(r.mount("kv", mount.Limits{BodyBytes: kv.MaxValueBytes}), kv.New(db, r.Now))
	return nil
}
