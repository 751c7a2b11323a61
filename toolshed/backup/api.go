package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// ScopeRead is the scope of backing up. Restoring has none: it brings tokens,
// and so is for those alone who may do everything.
const ScopeRead auth.Scope = "backup:read"

// Limits is what this API takes: one backup at a time.
var Limits = mount.Limits{Lasting: 1}

// API is where backups are asked for.
type API struct {
	Source Source
	// Fresh says why nothing may be restored, or nothing.
	Fresh func(ctx context.Context) error
	// Seal keeps what is written from being acknowledged until it is opened.
	Seal func() (open func())
	// Restart ends this toolshed, so that the next one opens what was restored.
	Restart func()
	Log     *zap.Logger
}

// Register puts it on its place.
func Register(m *mount.Mount, a *API) {
	m.Handle("GET /api/backup", mount.Route{Scope: ScopeRead, Lasting: true}, http.HandlerFunc(a.backup))
	m.Handle("POST /api/restore", mount.Route{
		Scope: auth.Everything, Lasting: true, BodyBytes: -1, Accepts: []string{"application/x-tar"},
	}, http.HandlerFunc(a.restore))
}

// backup answers with everything, encrypted to the recipient that is named. A
// connection that ends before the file does is how a failure shows.
func (a *API) backup(w http.ResponseWriter, r *http.Request) {
	to, err := ParseRecipient(r.URL.Query().Get("recipient"))
	if err != nil {
		problem.Of(http.StatusUnprocessableEntity, "recipient: "+err.Error()).Write(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="toolshed.backup.age"`)
	h.Set("Cache-Control", "no-store")
	if err := a.Source.Write(r.Context(), w, to); err != nil {
		a.Log.Error("backing up", zap.String("request", mount.RequestID(r.Context())), zap.Error(err))
		panic(http.ErrAbortHandler)
	}
}

// restore takes a backup that its owner has decrypted.
func (a *API) restore(w http.ResponseWriter, r *http.Request) {
	if err := a.Fresh(r.Context()); err != nil {
		problem.New(http.StatusConflict, "not-fresh", err.Error()).Write(w)
		return
	}
	known := func(name string) bool {
		_, ok := a.Source.Databases[name]
		for _, folder := range a.Source.Folders {
			ok = ok || len(name) > len(folder) && name[:len(folder)+1] == folder+"/"
		}
		return ok
	}
	unseal := func() {}
	err := Stage(r.Context(), a.Source.Dir, r.Body, known, func(unpacked string) error {
		if err := a.fit(r.Context(), unpacked); err != nil {
			return err
		}
		// From here on nobody is told that something is kept; what they were told
		// before is seen.
		unseal = a.Seal()
		return a.Fresh(r.Context())
	})
	if err != nil {
		unseal()
	}
	switch {
	case errors.Is(err, ErrNotFresh):
		problem.New(http.StatusConflict, "not-fresh", err.Error()).Write(w)
		return
	case errors.Is(err, ErrMalformed):
		problem.New(http.StatusUnprocessableEntity, "no-backup", "body: "+err.Error()).Write(w)
		return
	case err != nil:
		a.Log.Error("restoring", zap.String("request", mount.RequestID(r.Context())), zap.Error(err))
		problem.New(http.StatusInsufficientStorage, "not-restored", "the backup could not be unpacked; nothing was changed").Write(w)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	a.Restart()
}

// fit sees that the toolshed can open what is to be put in place.
func (a *API) fit(ctx context.Context, unpacked string) error {
	for name, db := range a.Source.Databases {
		path := filepath.Join(unpacked, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("restoring %s: %w", name, err)
		}
		if err := db.Adopt(ctx, path); errors.Is(err, store.ErrUnfit) {
			return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		} else if err != nil {
			return fmt.Errorf("restoring %s: %w", name, err)
		}
	}
	return nil
}
