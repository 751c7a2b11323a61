package oci_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry is one in memory, with the referrers of OCI 1.1, that a test can turn
// against its clients.
type registry struct {
	t      *testing.T
	server *httptest.Server
	// hostile, where set, may answer in the registry's place.
	hostile func(w http.ResponseWriter, r *http.Request) bool

	mu sync.Mutex
	// What it has and was asked, guarded by mu.
	blobs     map[string][]byte
	manifests map[string][]byte
	tags      map[string]string
	asked     []string
}

func newRegistry(t *testing.T) *registry {
	r := &registry{t: t, blobs: map[string][]byte{}, manifests: map[string][]byte{}, tags: map[string]string{}}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *registry) host() string { return strings.TrimPrefix(r.server.URL, "http://") }

// reference is the release's that tests push.
func (r *registry) reference() string { return r.host() + "/team/shed:1.2.3" }

func (r *registry) put(blob []byte) digest.Digest {
	d := digest.FromBytes(blob)
	r.blobs[d.String()] = blob
	return d
}

// was says how often it was asked for something, by method and the path's end.
func (r *registry) was(method, end string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.asked {
		if strings.HasPrefix(a, method+" ") && strings.HasSuffix(a, end) {
			n++
		}
	}
	return n
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if r.hostile != nil && r.hostile(w, q) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q.Method+" "+q.URL.Path)
	rest := strings.TrimPrefix(q.URL.Path, "/v2/team/shed/")
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case q.URL.Path == "/v2/":
	case kind == "blobs" && name == "uploads/" && q.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/team/shed/upload/1")
		w.WriteHeader(http.StatusAccepted)
	case kind == "upload" && q.Method == http.MethodPut:
		b, err := io.ReadAll(q.Body)
		if err != nil || r.put(b).String() != q.URL.Query().Get("digest") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case kind == "blobs":
		r.serve(w, q, r.blobs[name], name, "application/octet-stream")
	case kind == "manifests" && q.Method == http.MethodPut:
		b, err := io.ReadAll(q.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		d := digest.FromBytes(b).String()
		r.manifests[d] = b
		if name != d {
			r.tags[name] = d
		}
		w.Header().Set("OCI-Subject", "yes")
		w.WriteHeader(http.StatusCreated)
	case kind == "manifests":
		if d, tagged := r.tags[name]; tagged {
			name = d
		}
		r.serve(w, q, r.manifests[name], name, ocispec.MediaTypeImageManifest)
	case kind == "referrers":
		b, err := json.Marshal(r.referrers(name))
		if err != nil {
			r.t.Error(err)
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Write(b)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (r *registry) serve(w http.ResponseWriter, q *http.Request, b []byte, name, mediaType string) {
	if b == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", name)
	http.ServeContent(w, q, "", time0, bytes.NewReader(b))
}

func (r *registry) referrers(of string) ocispec.Index {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for d, b := range r.manifests {
		var m ocispec.Manifest
		if json.Unmarshal(b, &m) == nil && m.Subject != nil && m.Subject.Digest.String() == of {
			index.Manifests = append(index.Manifests, ocispec.Descriptor{
				MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d), Size: int64(len(b)), ArtifactType: m.ArtifactType,
			})
		}
	}
	return index
}

// artifact is what the tag names, and signature what refers to it.
func (r *registry) artifact() (release, signature ocispec.Manifest) {
	r.t.Helper()
	tagged := r.tags["1.2.3"]
	for d, b := range r.manifests {
		var m ocispec.Manifest
		if err := json.Unmarshal(b, &m); err != nil {
			r.t.Fatal(err)
		}
		switch {
		case d == tagged:
			release = m
		case m.Subject != nil && m.Subject.Digest.String() == tagged:
			signature = m
		}
	}
	return release, signature
}

// replace puts other artifacts in the place of those that were pushed, as
// whoever runs a registry can.
func (r *registry) replace(release, signature ocispec.Manifest) {
	r.t.Helper()
	b, err := json.Marshal(release)
	if err != nil {
		r.t.Fatal(err)
	}
	d := digest.FromBytes(b)
	r.manifests = map[string][]byte{d.String(): b}
	r.tags["1.2.3"] = d.String()
	signature.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(b))}
	s, err := json.Marshal(signature)
	if err != nil {
		r.t.Fatal(err)
	}
	r.manifests[digest.FromBytes(s).String()] = s
}
