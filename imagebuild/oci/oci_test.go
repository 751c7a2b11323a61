package oci_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/oci"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

var time0 time.Time

// signedRelease is a release of small files, and its key.
func signedRelease(t *testing.T) (dir string, key crypto.PublicKey) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) release.File {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return release.File{Name: name, SHA256: attest.Sum(data), Bytes: int64(len(data))}
	}
	disk := make([]byte, 3<<20)
	rand.Read(disk[1<<20 : 1<<20+200_000])
	uki := make([]byte, 300_000)
	rand.Read(uki)
	lock := write(imagebuild.LockName, []byte("lock"))
	m := &release.Manifest{
		Schema: release.SchemaDocuments, Version: "1.2.3", Epoch: 4, Architecture: "amd64", StubVersion: 252,
		Disk: write(imagebuild.DiskName, disk), UKI: write(imagebuild.UKIName, uki),
		Documents: &release.Documents{SBOM: write(imagebuild.SBOMName, []byte("{}")), Provenance: write(imagebuild.ProvenanceName, []byte("{ }"))},
		Inputs:    []release.Input{release.Input(lock), {Name: "init", SHA256: attest.Digest{1}, Bytes: 1}},
	}
	boot := release.Boot{SHA256: map[string]string{}, SHA384: map[string]string{}}
	for _, register := range []string{"4", "9", "11"} {
		boot.SHA256[register], boot.SHA384[register] = strings.Repeat("0a", 32), strings.Repeat("0a", 48)
	}
	m.Boots = []release.Boot{boot}
	encoded, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write(imagebuild.ManifestName, encoded)
	return dir, signedBy(t, dir, filepath.Join(t.TempDir(), "release.key"))
}

func signedBy(t *testing.T, dir, file string) crypto.PublicKey {
	t.Helper()
	if err := sign.Generate(rand.Reader, file); err != nil {
		t.Fatal(err)
	}
	key, err := sign.Load(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign.Release(t.Context(), dir, key); err != nil {
		t.Fatal(err)
	}
	public, err := release.ParsePublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func push(t *testing.T, reference, dir string) string {
	t.Helper()
	d, err := oci.Push(t.Context(), oci.Options{Reference: reference, PlainHTTP: true}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pull(t *testing.T, reference string, key crypto.PublicKey, dir string) (*oci.Pulled, error) {
	t.Helper()
	return oci.Pull(t.Context(), oci.Options{Reference: reference, PlainHTTP: true}, key, dir)
}

// names are the files of a directory.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	if x, y := names(t, a), names(t, b); !slices.Equal(x, y) {
		t.Fatalf("%v, and there %v", x, y)
	}
	for _, name := range names(t, a) {
		x, errX := os.ReadFile(filepath.Join(a, name))
		y, errY := os.ReadFile(filepath.Join(b, name))
		if err := errors.Join(errX, errY); err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
}

func TestPushedIsPulled(t *testing.T) {
	r := newRegistry(t)
	dir, key := signedRelease(t)
	first := push(t, r.reference(), dir)
	uploads := r.was("PUT", "")
	if again := push(t, r.reference(), dir); again != first {
		t.Errorf("pushed twice it is %s and %s", first, again)
	}
	if n := r.was("PUT", "upload/1"); uploads == 0 || n > uploads {
		t.Errorf("%d uploads, then %d", uploads, n)
	}
	into := filepath.Join(t.TempDir(), "new", "release")
	var told int64
	p, err := oci.Pull(t.Context(), oci.Options{Reference: r.reference(), PlainHTTP: true, Progress: func(_ string, done, total int64) {
		if done > total {
			t.Errorf("%d of %d bytes", done, total)
		}
		told = max(told, done)
	}}, key, into)
	if err != nil || p.Artifact != first || p.Manifest.Version != "1.2.3" || told == 0 {
		t.Fatalf("%+v, told %d, %v", p, told, err)
	}
	sameFiles(t, dir, into)
	// By digest, into the same directory: what is there is not fetched again.
	fetched := r.was("GET", "")
	by := r.host() + "/team/shed@" + first
	if _, err := pull(t, by, key, into); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, into)
	if n := r.was("GET", "") - fetched; n > 6 {
		t.Errorf("%d requests for a release that is there", n)
	}
	if _, err := pull(t, r.host()+"/team/shed:absent", key, into); err == nil {
		t.Error("an absent tag is pulled")
	}
}

// TestHostileRegistry has whoever runs the registry put other artifacts there,
// whose signature is the real one, and wants none of them kept.
func TestHostileRegistry(t *testing.T) {
	dir, key := signedRelease(t)
	other, _ := signedRelease(t)
	layer := func(m *ocispec.Manifest, name string) *ocispec.Descriptor {
		n := slices.IndexFunc(m.Layers, func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationTitle] == name })
		return &m.Layers[n]
	}
	swap := func(r *registry, d *ocispec.Descriptor, blob []byte) {
		d.Digest, d.Size = r.put(blob), int64(len(blob))
	}
	bomb := func() []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(make([]byte, 64<<20), nil)
	}()
	for name, c := range map[string]struct {
		change func(r *registry, m, s *ocispec.Manifest)
		want   error
	}{
		"another disk":     {func(r *registry, m, _ *ocispec.Manifest) { swap(r, layer(m, "disk.raw.zst"), []byte("no zstd")) }, oci.ErrTampered},
		"a bomb":           {func(r *registry, m, _ *ocispec.Manifest) { swap(r, layer(m, "disk.raw.zst"), bomb) }, oci.ErrTampered},
		"another image":    {func(r *registry, m, _ *ocispec.Manifest) { swap(r, layer(m, "uki.efi"), []byte("uki")) }, oci.ErrTampered},
		"a larger image":   {func(_ *registry, m, _ *ocispec.Manifest) { layer(m, "uki.efi").Size = 1 << 40 }, oci.ErrTampered},
		"a larger disk":    {func(_ *registry, m, _ *ocispec.Manifest) { layer(m, "disk.raw.zst").Size = 1 << 40 }, oci.ErrTampered},
		"another lock":     {func(r *registry, m, _ *ocispec.Manifest) { swap(r, layer(m, "image.lock"), []byte("kcol")) }, oci.ErrTampered},
		"another manifest": {func(r *registry, m, _ *ocispec.Manifest) { swap(r, layer(m, "manifest.json"), []byte("{}")) }, oci.ErrUnsigned},
		"a large manifest": {func(_ *registry, m, _ *ocispec.Manifest) { layer(m, "manifest.json").Size = 1 << 30 }, oci.ErrArtifact},
		"no image":         {func(_ *registry, m, _ *ocispec.Manifest) { m.Layers = m.Layers[:2] }, oci.ErrArtifact},
		"a path": {func(_ *registry, m, _ *ocispec.Manifest) {
			layer(m, "uki.efi").Annotations[ocispec.AnnotationTitle] = "../uki.efi"
		}, oci.ErrArtifact},
		"a name twice":       {func(_ *registry, m, _ *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }, oci.ErrArtifact},
		"another type":       {func(_ *registry, m, _ *ocispec.Manifest) { m.ArtifactType = "application/other" }, oci.ErrArtifact},
		"too many layers":    {func(_ *registry, m, _ *ocispec.Manifest) { m.Layers = make([]ocispec.Descriptor, 65) }, oci.ErrArtifact},
		"no signature":       {func(_ *registry, _, s *ocispec.Manifest) { s.ArtifactType = "application/other" }, oci.ErrUnsigned},
		"no bundle":          {func(_ *registry, _, s *ocispec.Manifest) { s.Layers = s.Layers[1:] }, oci.ErrUnsigned},
		"a large bundle":     {func(_ *registry, _, s *ocispec.Manifest) { s.Layers[0].Size = 1 << 30 }, oci.ErrUnsigned},
		"another's bundle":   {func(r *registry, _, s *ocispec.Manifest) { swap(r, &s.Layers[0], readFile(t, other, sign.BundleName)) }, oci.ErrUnsigned},
		"another's entry":    {func(r *registry, _, s *ocispec.Manifest) { swap(r, &s.Layers[1], readFile(t, other, sign.EntryName)) }, oci.ErrUnsigned},
		"flipped in transit": {func(r *registry, m, _ *ocispec.Manifest) { r.blobs[layer(m, "uki.efi").Digest.String()][9] ^= 1 }, oci.ErrTampered},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			push(t, r.reference(), dir)
			m, s := r.artifact()
			c.change(r, &m, &s)
			r.replace(m, s)
			into := t.TempDir()
			if err := os.WriteFile(filepath.Join(into, "note"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := pull(t, r.reference(), key, into)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			for _, kept := range names(t, into) {
				if kept == imagebuild.ManifestName || kept == sign.BundleName {
					t.Errorf("%s is kept", kept)
				}
			}
			if n := r.was("GET", layer2(m)); errors.Is(c.want, oci.ErrUnsigned) && n > 0 {
				t.Errorf("the disk was fetched %d times before anything was verified", n)
			}
		})
	}
}

// layer2 is the end of the path of the artifact's second layer, the disk.
func layer2(m ocispec.Manifest) string {
	if len(m.Layers) < 2 {
		return "none"
	}
	return m.Layers[1].Digest.String()
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnotherKey(t *testing.T) {
	r := newRegistry(t)
	dir, _ := signedRelease(t)
	push(t, r.reference(), dir)
	_, another := signedRelease(t)
	into := filepath.Join(t.TempDir(), "never")
	if _, err := pull(t, r.reference(), another, into); !errors.Is(err, oci.ErrUnsigned) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(into); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

// TestRedirects has the registry send its client to addresses that only this
// machine reaches. Nothing may be dialled there.
func TestRedirects(t *testing.T) {
	dir, key := signedRelease(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	reached := make(chan struct{}, 16)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			reached <- struct{}{}
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[fe80::1%25lo]/", "http://0.0.0.0:" + port + "/",
		"http://127.0.0.1:" + port + "/", "http://localhost:" + port + "/", "http://[::1]:" + port + "/",
		"http://[::ffff:127.0.0.1]:" + port + "/", "http://[64:ff9b::7f00:1]/", "http://100.100.100.200/",
	} {
		r := newRegistry(t)
		push(t, r.reference(), dir)
		r.hostile = func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.Contains(q.URL.Path, "/blobs/") {
				return false
			}
			http.Redirect(w, q, to, http.StatusTemporaryRedirect)
			return true
		}
		if _, err := pull(t, r.reference(), key, t.TempDir()); !errors.Is(err, oci.ErrDestination) {
			t.Errorf("%s: got %v", to, err)
		}
	}
	select {
	case <-reached:
		t.Error("an address that is refused was dialled")
	default:
	}
}

// TestResume has the registry break off, and wants the next pull to fetch the
// rest alone.
func TestResume(t *testing.T) {
	dir, key := signedRelease(t)
	r := newRegistry(t)
	push(t, r.reference(), dir)
	m, _ := r.artifact()
	uki := m.Layers[2].Digest.String()
	var ranges []string
	ended := false
	r.hostile = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.HasSuffix(q.URL.Path, uki) || q.Method != http.MethodGet {
			return false
		}
		if ranges = append(ranges, q.Header.Get("Range")); ended {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(m.Layers[2].Size))
		w.Write(r.blobs[uki][:100_000])
		panic(http.ErrAbortHandler)
	}
	into := t.TempDir()
	if _, err := pull(t, r.reference(), key, into); !errors.Is(err, oci.ErrIncomplete) {
		t.Fatalf("got %v", err)
	}
	kept := names(t, into)
	if !slices.Contains(kept, ".pull/"+strings.TrimPrefix(uki, "sha256:")) || slices.Contains(kept, imagebuild.ManifestName) || slices.Contains(kept, imagebuild.UKIName) {
		t.Errorf("kept are %v", kept)
	}
	ended, ranges = true, nil
	if _, err := pull(t, r.reference(), key, into); err != nil {
		t.Fatal(err)
	}
	if last := ranges[len(ranges)-1]; last != "bytes=100000-299999" {
		t.Errorf("asked for %q", ranges)
	}
	sameFiles(t, dir, into)
}

// TestNothingHalfDone wants an earlier release's manifest gone where pulling
// another over it fails.
func TestNothingHalfDone(t *testing.T) {
	dir, key := signedRelease(t)
	r := newRegistry(t)
	push(t, r.reference(), dir)
	into := t.TempDir()
	if _, err := pull(t, r.reference(), key, into); err != nil {
		t.Fatal(err)
	}
	next, nextKey := signedRelease(t)
	push(t, r.reference(), next)
	m, _ := r.artifact()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.hostile = func(_ http.ResponseWriter, q *http.Request) bool {
		if strings.HasSuffix(q.URL.Path, m.Layers[2].Digest.String()) {
			cancel()
		}
		return false
	}
	if _, err := oci.Pull(ctx, oci.Options{Reference: r.reference(), PlainHTTP: true}, nextKey, into); err == nil {
		t.Fatal("a pull that was given up succeeds")
	}
	if slices.Contains(names(t, into), imagebuild.ManifestName) {
		t.Error("the earlier manifest stands beside other files")
	}
}

// TestNothingOfAnotherRelease pulls into a directory where a release was that had
// more files.
func TestNothingOfAnotherRelease(t *testing.T) {
	dir, key := signedRelease(t)
	r := newRegistry(t)
	push(t, r.reference(), dir)
	into := t.TempDir()
	for _, name := range append(secureboot.FileNames(), imagebuild.FirmwareName, imagebuild.VariablesName, imagebuild.SignatureName,
		imagebuild.WriteName, imagebuild.PayloadName, imagebuild.SBOMName) {
		if err := os.WriteFile(filepath.Join(into, name), []byte("another's"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pull(t, r.reference(), key, into); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, into)
}

func TestPushRefuses(t *testing.T) {
	r := newRegistry(t)
	for name, c := range map[string]struct {
		change    func(dir string) error
		reference string
		want      error
	}{
		"no tag":         {reference: r.host() + "/team/shed", want: oci.ErrReference},
		"no reference":   {reference: "?", want: oci.ErrReference},
		"another digest": {reference: r.host() + "/team/shed@sha256:" + strings.Repeat("0", 64), want: oci.ErrReference},
		"unsigned":       {change: func(dir string) error { return os.Remove(filepath.Join(dir, sign.BundleName)) }, want: fs.ErrNotExist},
		"no disk":        {change: func(dir string) error { return os.Remove(filepath.Join(dir, imagebuild.DiskName)) }, want: fs.ErrNotExist},
		"another disk": {change: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, imagebuild.DiskName), []byte("x"), 0o600)
		}, want: oci.ErrTampered},
	} {
		dir, _ := signedRelease(t)
		if c.change != nil {
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
		}
		reference := c.reference
		if reference == "" {
			reference = r.reference()
		}
		if _, err := oci.Push(t.Context(), oci.Options{Reference: reference, PlainHTTP: true}, dir); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if len(r.tags) > 0 {
		t.Errorf("tags %v", r.tags)
	}
}

// TestRealRegistry takes a release to distribution's registry and back, and has
// another client find the signature and read the files.
func TestRealRegistry(t *testing.T) {
	program, oras := os.Getenv("SHED_REGISTRY"), os.Getenv("SHED_ORAS")
	if program == "" || oras == "" {
		t.Skip("no registry: SHED_REGISTRY and SHED_ORAS name distribution's and oras (make test)")
	}
	host := startRegistry(t, program)
	dir, key := signedRelease(t)
	reference := host + "/team/shed:1.2.3"
	d := push(t, reference, dir)
	if again := push(t, reference, dir); again != d {
		t.Errorf("pushed twice it is %s and %s", d, again)
	}
	into := t.TempDir()
	if _, err := pull(t, reference, key, into); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, dir, into)
	out, err := exec.Command(oras, "discover", "--plain-http", "--artifact-type", oci.SignatureType, reference).CombinedOutput()
	if err != nil || !strings.Contains(string(out), oci.SignatureType) {
		t.Errorf("oras discover: %v\n%s", err, out)
	}
	read := t.TempDir()
	cmd := exec.Command(oras, "pull", "--plain-http", reference)
	cmd.Dir = read
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("oras pull: %v\n%s", err, out)
	}
	for _, name := range []string{imagebuild.ManifestName, imagebuild.UKIName, imagebuild.SBOMName} {
		if !bytes.Equal(readFile(t, read, name), readFile(t, dir, name)) {
			t.Errorf("oras has another %s", name)
		}
	}
	unpack, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unpack.Close()
	disk, err := unpack.DecodeAll(readFile(t, read, imagebuild.DiskName+".zst"), nil)
	if err != nil || !bytes.Equal(disk, readFile(t, dir, imagebuild.DiskName)) {
		t.Errorf("oras has another disk: %v", err)
	}
}

// startRegistry runs one on the loopback, until the test ends.
func startRegistry(t *testing.T, program string) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = listener.Addr().String()
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\nlog: {level: error, accesslog: {disabled: true}}\n", t.TempDir(), host)
	if err := errors.Join(listener.Close(), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		response, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			response.Body.Close()
			return host
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v\n%s", err, said.String())
		}
	}
}
