package kv

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/stream"
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
		out := stream.Begin(ctx, in.Accept)
		// Whoever is gone, or has the feed cut off, cannot be told.
		_ = h.kept.follow(ctx.Context(), keys, func(entries []*Entry, changed []bool) error {
			return writeChanges(out, in.Key, entries, changed)
		}, out.Idle)
	}}, nil
}

// writeChanges sends what changed of the keys that are watched.
func writeChanges(out *stream.Writer, paths []string, entries []*Entry, changed []bool) error {
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
	return out.Value(body)
}
