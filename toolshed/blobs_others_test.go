package toolshed_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// blobTools is where others' clients and servers are.
func blobTools(t *testing.T) string {
	t.Helper()
	tools := os.Getenv("SHED_BLOB_TOOLS")
	if tools == "" {
		t.Skip("SHED_BLOB_TOOLS names no folder with tuspy, moto and tus-js-client; make test sets it")
	}
	return tools
}

// Two published tus clients upload, break off and go on.
func TestTusClients(t *testing.T) {
	tools := blobTools(t)
	s := serve(t)
	file := filepath.Join(t.TempDir(), "file")
	content := noise(1_000_000)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	python := exec.Command(filepath.Join(tools, "bin", "python"), "testdata/blobs/tuspy.py", s+"/api/blobs/uploads", file)
	node := exec.Command("node", "testdata/blobs/tus.js", s+"/api/blobs/uploads", file)
	node.Env = append(os.Environ(), "NODE_PATH="+filepath.Join(tools, "node_modules"))
	for name, cmd := range map[string]*exec.Cmd{"tuspy": python, "tus-js-client": node} {
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		place := strings.TrimPrefix(strings.TrimSpace(string(out)), s)
		status, text, _ := ask(t, s, "GET", place, "")
		if want := fmt.Sprintf(`"sha256":"%x"`, sha256.Sum256([]byte(content))); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %s: %d %s", name, place, status, text)
		}
	}
}

// motoS3 is moto's server with a bucket.
func motoS3(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(blobTools(t), "bin", "python"), "testdata/blobs/s3.py")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("moto does not start: %v", err)
	}
	address := strings.TrimSpace(line)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, address+"/mine", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("making a bucket: %v %v", err, resp)
	}
	resp.Body.Close()
	return address
}

// What is in the bucket is read again when it is no longer here, and what is
// deleted is gone from both.
func TestBlobsInS3(t *testing.T) {
	address := motoS3(t)
	t.Setenv("S3_ID", "id")
	t.Setenv("S3_SECRET", "secret")
	s := serveWith(t, allowLoopback+`
blobs:
  cache_bytes: 600000
  s3: {endpoint: "`+address+`", bucket: mine, prefix: "shed/", access_key_id: {env: S3_ID}, secret_access_key: {env: S3_SECRET}}
`)
	objects := func() int {
		_, text, _ := ask(t, address, "GET", "/mine?list-type=2", "")
		return strings.Count(text, "<Key>shed/")
	}
	var all []keptBlob
	contents := map[string]string{}
	for i := range 4 {
		content := fmt.Sprint(i) + noise(200_000)
		b := keepBlob(t, s, "application/octet-stream", content)
		all, contents[b.SHA256] = append(all, b), content
	}
	packed := keepBlob(t, s, "text/plain", strings.Repeat("text ", 10_000))
	if n := objects(); n != 5 {
		t.Fatalf("%d objects", n)
	}
	if status, text, _ := ask(t, s, "POST", "/api/blobs/sweep", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for range 2 {
		for _, b := range all {
			status, got, _ := ask(t, s, "GET", b.URL, "", "Range", "bytes=1-")
			if status != 206 || got != contents[b.SHA256][1:] {
				t.Errorf("%d, %d bytes", status, len(got))
			}
		}
	}
	for _, b := range append(all, packed) {
		if status, text, _ := ask(t, s, "DELETE", b.URL, ""); status != 204 {
			t.Errorf("deleting: %d %s", status, text)
		}
	}
	if n := objects(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// A bucket that fails is said to, and nothing is kept by half.
func TestBlobsS3Fails(t *testing.T) {
	t.Setenv("S3_ID", "id")
	t.Setenv("S3_SECRET", "secret")
	s := serveWith(t, allowLoopback+`
blobs:
  s3: {endpoint: "http://127.0.0.1:1", bucket: mine, access_key_id: {env: S3_ID}, secret_access_key: {env: S3_SECRET}}
`)
	status, text, h := ask(t, s, "POST", "/api/blobs", "content")
	if status != 502 {
		t.Fatalf("%d %s", status, text)
	}
	wantProblem(t, text, h, 502, "backing-store-failed")
	if _, text, _ := ask(t, s, "GET", "/api/blobs", ""); !strings.Contains(text, `"blobs":[]`) {
		t.Errorf("kept: %s", text)
	}
	// By tus nothing that arrived is lost: it becomes a blob once the bucket
	// is back.
	at := announce(t, s, 7)
	if status, _, _ := ask(t, s, "PATCH", at, "content", tus("Upload-Offset", "0")...); status != 502 {
		t.Errorf("by tus: %d", status)
	}
	if _, text, _ := ask(t, s, "GET", at, ""); !strings.Contains(text, `"offset":7`) {
		t.Errorf("what arrived: %s", text)
	}
}
