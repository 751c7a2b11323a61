package blobs

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// The words of the tus protocol, https://tus.io/protocols/resumable-upload.
const (
	tusVersion    = "1.0.0"
	tusExtensions = "creation,creation-with-upload,termination,checksum,expiration"
	tusAlgorithms = "sha1,sha256"
	offsetStream  = "application/offset+octet-stream"
)

// statusEvery is how often who watches an upload hears of it though nothing
// changes, so that a proxy keeps the connection.
const statusEvery = 20 * time.Second

func registerUploads(m *mount.Mount, h handlers) {
	documentUploads(m.API.OpenAPI())
	write := mount.Route{Scope: ScopeWrite, BodyBytes: -1, Lasting: true}
	m.Handle("OPTIONS "+uploadsRoot, mount.Route{Public: true}, http.HandlerFunc(h.tusOptions))
	m.Handle("POST "+uploadsRoot, write, tus(h.tusCreate))
	m.Handle("HEAD "+uploadsRoot+"/{id}", mount.Route{Scope: ScopeWrite}, tus(h.tusHead))
	m.Handle("PATCH "+uploadsRoot+"/{id}", write, tus(h.tusPatch))
	m.Handle("DELETE "+uploadsRoot+"/{id}", mount.Route{Scope: ScopeWrite}, tus(h.tusDelete))
	// For clients that have no PATCH.
	m.Handle("POST "+uploadsRoot+"/{id}", write, tus(func(w http.ResponseWriter, r *http.Request) error {
		switch r.Header.Get("X-HTTP-Method-Override") {
		case http.MethodPatch:
			return h.tusPatch(w, r)
		case http.MethodDelete:
			return h.tusDelete(w, r)
		}
		return problem.Of(http.StatusMethodNotAllowed, "x-http-method-override: want PATCH or DELETE")
	}))
	m.Handle("GET "+uploadsRoot+"/{id}", mount.Route{Scope: ScopeWrite}, http.HandlerFunc(h.uploadState))
	m.Handle("GET "+uploadsRoot+"/{id}/events", mount.Route{Scope: ScopeWrite, Lasting: true}, http.HandlerFunc(h.uploadEvents))
}

// tus is a request of the protocol.
func tus(handle func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Tus-Resumable", tusVersion)
		w.Header().Set("Cache-Control", "no-store")
		if r.Header.Get("Tus-Resumable") != tusVersion {
			w.Header().Set("Tus-Version", tusVersion)
			problem.Of(http.StatusPreconditionFailed, "tus-resumable: want "+tusVersion).Write(w)
			return
		}
		if err := handle(w, r); err != nil {
			refused(err).Write(w)
		}
	})
}

func (h handlers) tusOptions(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Tus-Resumable", tusVersion)
	header.Set("Tus-Version", tusVersion)
	header.Set("Tus-Extension", tusExtensions)
	header.Set("Tus-Checksum-Algorithm", tusAlgorithms)
	header.Set("Tus-Max-Size", strconv.FormatInt(h.kept.Quota, 10))
	w.WriteHeader(http.StatusNoContent)
}

func (h handlers) tusCreate(w http.ResponseWriter, r *http.Request) error {
	length, err := natural(r, "Upload-Length")
	if err != nil {
		return err
	}
	if length > h.kept.Quota {
		return problem.New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("upload-length: at most %d", h.kept.Quota))
	}
	u := Upload{Length: length, Metadata: r.Header.Get("Upload-Metadata")}
	said, err := parseMetadata(u.Metadata)
	if err != nil {
		return problem.Of(http.StatusBadRequest, "upload-metadata: "+err.Error())
	}
	u.Name = said["filename"]
	if u.MediaType, err = checkNames(said["filetype"], u.Name); err != nil {
		return err
	}
	withBody := r.Header.Get("Content-Type") == offsetStream
	if !withBody && r.ContentLength > 0 {
		return problem.Of(http.StatusUnsupportedMediaType, "content-type: want "+offsetStream)
	}
	if u, err = h.kept.Create(r.Context(), u); err != nil {
		return err
	}
	w.Header().Set("Location", uploadsRoot+"/"+u.ID)
	if withBody || u.Length == 0 {
		sum, err := parseChecksum(r.Header.Get("Upload-Checksum"))
		if err != nil {
			return errors.Join(err, h.kept.drop(r.Context(), u.ID))
		}
		// The upload is there though its first part fails: its place is told.
		went, err := h.kept.Append(r.Context(), u.ID, 0, r.Body, sum)
		if err != nil && !errors.Is(err, ErrCut) {
			return err
		}
		u = went
	}
	tellUpload(w, u)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h handlers) tusHead(w http.ResponseWriter, r *http.Request) error {
	u, err := h.kept.Upload(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	// A kill came between the last part and the blob.
	if u.Blob == nil && u.Offset == u.Length {
		if u, err = h.kept.Append(r.Context(), u.ID, u.Offset, http.NoBody, nil); err != nil {
			return err
		}
	}
	tellUpload(w, u)
	w.Header().Set("Upload-Length", strconv.FormatInt(u.Length, 10))
	if u.Metadata != "" {
		w.Header().Set("Upload-Metadata", u.Metadata)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h handlers) tusPatch(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Content-Type") != offsetStream {
		return problem.Of(http.StatusUnsupportedMediaType, "content-type: want "+offsetStream)
	}
	offset, err := natural(r, "Upload-Offset")
	if err != nil {
		return err
	}
	sum, err := parseChecksum(r.Header.Get("Upload-Checksum"))
	if err != nil {
		return err
	}
	u, err := h.kept.Append(r.Context(), r.PathValue("id"), offset, r.Body, sum)
	if err != nil {
		return err
	}
	tellUpload(w, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h handlers) tusDelete(w http.ResponseWriter, r *http.Request) error {
	if err := h.kept.Terminate(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func tellUpload(w http.ResponseWriter, u Upload) {
	header := w.Header()
	header.Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
	header.Set("Upload-Expires", u.ExpiresAt.Format(http.TimeFormat))
	if u.Blob != nil {
		header.Set("Blob-SHA256", u.Blob.String())
	}
}

// natural reads a header with a number.
func natural(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseUint(r.Header.Get(name), 10, 63)
	if err != nil {
		return 0, problem.Of(http.StatusBadRequest, strings.ToLower(name)+": want a number of bytes")
	}
	return int64(n), nil
}

// parseMetadata reads the pairs of an upload: a key, a space and a value in
// Base64, with commas between.
func parseMetadata(text string) (map[string]string, error) {
	if len(text) > MaxMetadataBytes {
		return nil, fmt.Errorf("it has %d bytes, at most %d", len(text), MaxMetadataBytes)
	}
	all := map[string]string{}
	if strings.TrimSpace(text) == "" {
		return all, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		key, encoded, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("%.64q: is not Base64", key)
		}
		if _, twice := all[key]; twice || key == "" {
			return nil, fmt.Errorf("%.64q: is empty or there twice", key)
		}
		all[key] = string(value)
	}
	return all, nil
}

// parseChecksum reads an algorithm and a sum in Base64; nil where there is none.
func parseChecksum(text string) (*Checksum, error) {
	if text == "" {
		return nil, nil
	}
	name, encoded, _ := strings.Cut(text, " ")
	var h hash.Hash
	switch name {
	case "sha1":
		h = sha1.New()
	case "sha256":
		h = sha256.New()
	default:
		return nil, problem.Of(http.StatusBadRequest, "upload-checksum: want one of "+tusAlgorithms)
	}
	want, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(want) != h.Size() {
		return nil, problem.Of(http.StatusBadRequest, "upload-checksum: is no sum in Base64")
	}
	return &Checksum{Hash: h, Want: want}, nil
}

// shownUpload is one for a caller.
type shownUpload struct {
	Offset    int64     `json:"offset"`
	Length    int64     `json:"length"`
	ExpiresAt time.Time `json:"expires_at"`
	SHA256    string    `json:"sha256,omitempty"`
}

func showUpload(u Upload) shownUpload {
	s := shownUpload{Offset: u.Offset, Length: u.Length, ExpiresAt: u.ExpiresAt}
	if u.Blob != nil {
		s.SHA256 = u.Blob.String()
	}
	return s
}

func (h handlers) uploadState(w http.ResponseWriter, r *http.Request) {
	u, err := h.kept.Upload(r.Context(), r.PathValue("id"))
	if err != nil {
		refused(err).Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// A reader that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(showUpload(u))
}

// uploadEvents tells how an upload gets on, as server-sent events, until it is a
// blob or over.
func (h handlers) uploadEvents(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := h.kept.Upload(r.Context(), id); err != nil {
		refused(err).Write(w)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for {
		changed := h.kept.Watch(id)
		u, err := h.kept.Upload(r.Context(), id)
		name := "progress"
		switch {
		case err != nil:
			name = "ended"
		case u.Blob != nil:
			name = "done"
		}
		if err := tell(w, name, showUpload(u)); err != nil || name != "progress" || !waitFor(r.Context(), changed) {
			return
		}
	}
}

func tell(w http.ResponseWriter, name string, said any) error {
	b, err := json.Marshal(said)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, b); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

func waitFor(ctx context.Context, changed <-chan struct{}) bool {
	again := time.NewTimer(statusEvery)
	defer again.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-again.C:
	}
	return true
}
