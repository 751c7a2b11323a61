package kv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/kv/pb"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// KV Connect (github.com/denoland/denokv, proto/kv-connect.md): an exchange of
// metadata in JSON, and a data path of three calls in protocol buffers. Its
// refusals are plain text, as it has them.

const (
	connectPath = "/kv"
	// dataPath is where the data path's calls are.
	dataPath      = "/kv/connect"
	mediaProtobuf = "application/x-protobuf"
	maxExchange   = 4 << 10
	// maxConnectBytes leaves room for what stands around keys and values.
	maxConnectBytes = MaxWriteBytes + 256<<10
	// metadataLife is how long a client believes the metadata.
	metadataLife = time.Hour
)

// latest is the newest version of the protocol that is spoken, 1 the oldest.
const latest = 3

func (h handlers) registerConnect(m *mount.Mount) {
	m.Handle("POST "+connectPath, mount.Route{Scope: ScopeRead, BodyBytes: maxExchange}, http.HandlerFunc(h.exchange))
	for _, c := range []struct {
		name  string
		route mount.Route
		call  func(http.ResponseWriter, *http.Request, []byte) error
	}{
		{"snapshot_read", mount.Route{Scope: ScopeRead}, h.connectRead},
		{"atomic_write", mount.Route{Scope: ScopeWrite}, h.connectWrite},
		{"watch", mount.Route{Scope: ScopeRead, Lasting: true}, h.connectWatch},
	} {
		c.route.BodyBytes = maxConnectBytes
		m.Handle("POST "+dataPath+"/"+c.name, c.route, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := h.connectBody(r)
			if err == nil {
				err = c.call(w, r, body)
			}
			if err != nil {
				refuseConnect(w, err)
			}
		}))
	}
}

// refuseConnect answers in plain text. A client tries again after 5xx, and
// shows its user what is said with 4xx.
func refuseConnect(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	said, isSaid := errors.AsType[*problem.Problem](err)
	switch {
	case isSaid:
		status = said.Status
	case errors.Is(err, ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrQuota):
		// It is one of 5xx by its number, but trying again does not help.
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}

type metadata struct {
	Version    int        `json:"version"`
	DatabaseID string     `json:"databaseId"`
	Endpoints  []endpoint `json:"endpoints"`
	Token      string     `json:"token"`
	ExpiresAt  time.Time  `json:"expiresAt"`
}

type endpoint struct {
	URL         string `json:"url"`
	Consistency string `json:"consistency"`
}

// exchange answers where the data path is, and which version is spoken.
func (h handlers) exchange(w http.ResponseWriter, r *http.Request) {
	m, err := h.metadata(r)
	if err != nil {
		refuseConnect(w, err)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Cache-Control", "no-store")
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(m)
}

func (h handlers) metadata(r *http.Request) (m metadata, err error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxExchange))
	if err != nil {
		return m, fmt.Errorf("%w: the body did not arrive whole", ErrInvalid)
	}
	if m.Version, err = negotiate(body); err != nil {
		return m, err
	}
	if m.DatabaseID, err = h.databaseID(r); err != nil {
		return m, err
	}
	at := endpoint{URL: dataPath, Consistency: "strong"}
	if m.Version == 1 {
		at.URL = "http://" + r.Host + dataPath
	}
	m.Endpoints = []endpoint{at}
	// The data path takes the caller's own token; where the agent vouches for
	// them any does.
	if m.Token = auth.Bearer(r.Context()); m.Token == "" {
		m.Token = "owner"
	}
	m.ExpiresAt = h.kept.now().Add(metadataLife).UTC().Truncate(time.Second)
	if c := auth.FromContext(r.Context()); c != nil && !c.Expires.IsZero() && c.Expires.Before(m.ExpiresAt) {
		m.ExpiresAt = c.Expires.UTC().Truncate(time.Second)
	}
	return m, nil
}

// negotiate is the newest version that both speak. Who sends nothing speaks the
// first.
func negotiate(body []byte) (int, error) {
	if len(body) == 0 {
		return 1, nil
	}
	var asked struct {
		SupportedVersions []int `json:"supportedVersions"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return 0, fmt.Errorf("%w: supportedVersions: want an array of numbers", ErrInvalid)
	}
	for version := latest; version > 0; version-- {
		if slices.Contains(asked.SupportedVersions, version) {
			return version, nil
		}
	}
	return 0, fmt.Errorf("%w: supportedVersions: this server speaks 1 to %d", ErrInvalid, latest)
}

// databaseID is the store's id, as a UUID.
func (h handlers) databaseID(r *http.Request) (string, error) {
	id, err := h.kept.ID(r.Context())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

// connectBody reads the body of a call that is for this store.
func (h handlers) connectBody(r *http.Request) ([]byte, error) {
	meant := r.Header.Get("X-Transaction-Domain-Id")
	if version := r.Header.Get("X-Denokv-Version"); version != "" {
		meant = r.Header.Get("X-Denokv-Database-Id")
		if version != "2" && version != "3" {
			return nil, fmt.Errorf("%w: x-denokv-version: want 2 or 3", ErrInvalid)
		}
	}
	id, err := h.databaseID(r)
	if err != nil {
		return nil, err
	}
	if meant != id {
		return nil, fmt.Errorf("%w: x-denokv-database-id is not this database's", ErrInvalid)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxConnectBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: the body did not arrive whole", ErrInvalid)
	}
	return body, checkMessage(body)
}

func answerConnect(w http.ResponseWriter, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	w.Header().Set("Content-Type", mediaProtobuf)
	// A client that is gone cannot be told.
	_, _ = w.Write(b)
	return nil
}

func (h handlers) connectRead(w http.ResponseWriter, r *http.Request, body []byte) error {
	ranges, err := parseRead(body)
	if err != nil {
		return err
	}
	found, err := h.kept.Read(r.Context(), ranges...)
	if err != nil {
		return err
	}
	out := &pb.SnapshotReadOutput{ReadIsStronglyConsistent: true, Status: pb.SnapshotReadStatus_SR_SUCCESS}
	for _, entries := range found {
		one := &pb.ReadRangeOutput{}
		for i := range entries {
			one.Values = append(one.Values, entryMessage(&entries[i]))
		}
		out.Ranges = append(out.Ranges, one)
	}
	return answerConnect(w, out)
}

func (h handlers) connectWrite(w http.ResponseWriter, r *http.Request, body []byte) error {
	write, err := parseAtomic(body)
	if err != nil {
		return err
	}
	if err := mayEnqueue(r.Context(), write); err != nil {
		return err
	}
	version, err := h.kept.Atomic(r.Context(), write)
	out := &pb.AtomicWriteOutput{Status: pb.AtomicWriteStatus_AW_SUCCESS}
	if failed, ok := errors.AsType[*FailedError](err); ok {
		out.Status = pb.AtomicWriteStatus_AW_CHECK_FAILURE
		for _, i := range failed.Checks {
			out.FailedChecks = append(out.FailedChecks, uint32(i))
		}
	} else if err != nil {
		return err
	} else {
		out.Versionstamp = versionstamp(version)
	}
	return answerConnect(w, out)
}

// connectWatch sends messages, each behind its length, until the client goes; an
// empty one shows that the server lives.
func (h handlers) connectWatch(w http.ResponseWriter, r *http.Request, body []byte) error {
	keys, err := parseWatch(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaBytes)
	control := http.NewResponseController(w)
	send := func(b []byte) error {
		framed := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b)))
		if _, err := w.Write(append(framed, b...)); err != nil {
			return err
		}
		return control.Flush()
	}
	// The answer has begun: what goes wrong cuts it off.
	_ = h.kept.follow(r.Context(), keys, func(entries []*Entry, _ []bool) error {
		out := &pb.WatchOutput{Status: pb.SnapshotReadStatus_SR_SUCCESS}
		for _, e := range entries {
			// Deno takes an entry that is said to be unchanged for a missing one,
			// so all are said to have changed, as by Deno's own server.
			one := &pb.WatchKeyOutput{Changed: true}
			if e != nil {
				one.EntryIfChanged = entryMessage(e)
			}
			out.Keys = append(out.Keys, one)
		}
		b, err := proto.Marshal(out)
		if err != nil {
			return err
		}
		return send(b)
	}, func() error { return send(nil) })
	return nil
}
