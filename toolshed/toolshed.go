// Package toolshed is the personal HTTP API that a machine runs for its owner.
//
// Invariants: the root routes, names and logs requests and does nothing else;
// each API is a package of its own, is given what it needs, and imports no
// other; nothing that the owner sends is logged; it knows nothing of machines
// or proofs, so that any other server can take its place.
package toolshed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/backup"
	"github.com/toolshed-cloud/shed/toolshed/blobs"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/live"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/queue"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Version is the API's version, in its OpenAPI document.
const Version = "1.0.0"

// Options is what a toolshed runs on.
type Options struct {
	// Data is the data directory.
	Data *store.Directory
	// Config is what the file says; nil for nothing.
	Config *config.Config
	// BehindAgent says that nobody but the agent reaches this server.
	BehindAgent bool
	// Machine is what the agent says of it.
	Machine Machine
	Log     *zap.Logger
	// Where they are nil, Now is time.Now and Random is crypto/rand.Reader.
	Now    func() time.Time
	Random io.Reader
	// Restart ends this toolshed, so that the next one opens what was restored;
	// nil where nobody starts another.
	Restart func()
}

// Root is a toolshed that serves.
type Root struct {
	Options
	mux    *http.ServeMux
	api    huma.API
	namer  namer
	site   mount.Site
	mounts []*mount.Mount
	// databases are those that were opened, by their files' names, folders the
	// directories beside them that are backed up too.
	databases map[string]backup.Database
	folders   []string
	guard     *auth.Guard
	fetch     *fetch.Fetcher
	live      *live.Hub
	queue     *queue.Queue
	blobs     *blobs.Store
	// origins serve what has hosts of its own.
	origins []originOf
	// watchers are told of each request.
	watchers []watcher
	stop     context.CancelFunc
	seal     seal
	started  time.Time
	// closers end what was opened, the last first.
	closers []func() error
}

// Open opens every API. What it answers has to be closed.
func Open(ctx context.Context, o Options) (_ *Root, err error) {
	problem.Install()
	if o.Config == nil {
		o.Config = config.Empty()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	stopping, stop := context.WithCancel(context.Background())
	r := &Root{Options: o, mux: http.NewServeMux(), stop: stop, databases: map[string]backup.Database{}, watchers: []watcher{count}, started: o.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	r.api = humago.New(r.mux, document(&r.namer))
	r.site = mount.Site{API: r.api, Mux: r.mux, Now: o.Now, Stopping: stopping}
	if err := r.openShared(ctx); err != nil {
		return nil, err
	}
	if err := r.openAPIs(ctx); err != nil {
		return nil, err
	}
	r.registerBackup()
	r.registerPages()
	return r, o.Config.Unknown()
}

// fetchSection is the part of the configuration about the way out.
type fetchSection struct {
	Allow []string `yaml:"allow"`
}

// openShared opens what APIs are given.
func (r *Root) openShared(ctx context.Context) (err error) {
	if err := r.openTelemetry(); err != nil {
		return err
	}
	var section fetchSection
	if err := r.Config.Section("fetch", &section); err != nil {
		return err
	}
	if r.fetch, err = fetch.New(section.Allow); err != nil {
		return fmt.Errorf("%w: fetch.%w", config.ErrConfig, err)
	}
	r.closers = append(r.closers, func() error { r.fetch.Close(); return nil })
	db, err := r.open(ctx, auth.Schema)
	if err != nil {
		return err
	}
	tokens, err := auth.NewKeeper(ctx, db, r.Now, r.Random)
	if err != nil {
		return err
	}
	r.guard = &auth.Guard{Tokens: tokens, BehindAgent: r.BehindAgent}
	return nil
}

// open opens a database that is closed with the root.
func (r *Root) open(ctx context.Context, s store.Schema) (*store.DB, error) {
	db, err := r.Data.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, db.Close)
	r.databases[s.Name+".db"] = db
	return db, nil
}

// mount makes the place of one API.
func (r *Root) mount(name string, limits mount.Limits) *mount.Mount {
	r.namer.api = name
	m := r.site.New(name, limits)
	r.mounts = append(r.mounts, m)
	return m
}

// Tokens keeps the tokens of this toolshed.
func (r *Root) Tokens() *auth.Keeper { return r.guard.Tokens }

// Handler answers requests.
func (r *Root) Handler() http.Handler {
	return named(logged(r.guard.Identify(r.seal.keep(r.origin(problem.Unrouted(r.mux)))), r.route, r.Log, r.watchers...))
}

// Stop ends requests that would last. It is called before the server waits for
// those under way.
func (r *Root) Stop() { r.stop() }

// Close closes what was opened. Nothing may be under way.
func (r *Root) Close() error {
	r.stop()
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}
