package kv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The media types of a feed.
const (
	mediaLines  = "application/x-ndjson"
	mediaEvents = "text/event-stream"
)

// pingEvery is how often a feed with nothing to say shows that it lives.
const pingEvery = 5 * time.Second

// follow sends what the keys hold, at first and whenever it changes, and pings
// between, until ctx ends or sending fails. An entry is nil for a missing key;
// changed says which are new.
func (s *Store) follow(ctx context.Context, keys [][]byte, send func(entries []*Entry, changed []bool) error, ping func() error) error {
	w := s.Watch(keys...)
	defer w.Close()
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	var versions []int64
	for {
		entries, err := s.many(ctx, keys)
		if err != nil {
			return err
		}
		if changed, some := compareVersions(&versions, entries); some {
			if err := send(entries, changed); err != nil {
				return err
			}
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-w.Changed():
				waiting = false
			case <-ticker.C:
				if err := ping(); err != nil {
					return err
				}
			}
		}
	}
}

// compareVersions says which entries are not of the versions before, which it
// replaces. At first all are new.
func compareVersions(before *[]int64, entries []*Entry) (changed []bool, some bool) {
	changed, some = make([]bool, len(entries)), *before == nil
	versions := make([]int64, len(entries))
	for i, e := range entries {
		if e != nil {
			versions[i] = e.Version
		}
		changed[i] = *before == nil || versions[i] != (*before)[i]
		some = some || changed[i]
	}
	*before = versions
	return changed, some
}

type watchInput struct {
	Key    []string `query:"key,explode" required:"true" minItems:"1" maxItems:"10" doc:"the keys, as in a path"`
	Accept string   `header:"Accept" doc:"text/event-stream for server-sent events"`

	query string
}

// Resolve keeps the query as it came.
func (in *watchInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.query = address.RawQuery
	return nil
}

// changeJSON is one key that has changed.
type changeJSON struct {
	Path  string     `json:"path"`
	Entry *EntryJSON `json:"entry"`
}

func (h handlers) watch(_ context.Context, in *watchInput) (*huma.StreamResponse, error) {
	if err := checkQuery(in.query); err != nil {
		return nil, err
	}
	keys, err := encodedKeys(in.Key)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		f := feed{w: ctx.BodyWriter(), flush: http.NewResponseController(w).Flush, events: strings.Contains(in.Accept, mediaEvents)}
		ctx.SetHeader("Content-Type", f.contentType())
		ctx.SetHeader("Cache-Control", "no-store")
		ctx.SetStatus(http.StatusOK)
		// Whoever is gone, or has the feed cut off, cannot be told.
		_ = h.kept.follow(r.Context(), keys, func(entries []*Entry, changed []bool) error {
			return f.changes(in.Key, entries, changed)
		}, f.ping)
	}}, nil
}

// feed writes changes as lines or as server-sent events.
type feed struct {
	w      io.Writer
	flush  func() error
	events bool
}

func (f feed) contentType() string {
	if f.events {
		return mediaEvents
	}
	return mediaLines
}

func (f feed) changes(paths []string, entries []*Entry, changed []bool) error {
	var body struct {
		Changes []changeJSON `json:"changes"`
	}
	for i, e := range entries {
		if !changed[i] {
			continue
		}
		c := changeJSON{Path: paths[i]}
		if e != nil {
			j, err := entryJSON(*e, true)
			if err != nil {
				return err
			}
			c.Entry = &j
		}
		body.Changes = append(body.Changes, c)
	}
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a change: %w", err)
	}
	if f.events {
		return f.write("data: " + string(b) + "\n\n")
	}
	return f.write(string(b) + "\n")
}

func (f feed) ping() error {
	if f.events {
		return f.write(": still here\n\n")
	}
	return f.write("\n")
}

func (f feed) write(text string) error {
	if _, err := io.WriteString(f.w, text); err != nil {
		return fmt.Errorf("passing a change on: %w", err)
	}
	return f.flush()
}
