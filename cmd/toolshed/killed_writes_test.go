package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Killed at any moment, documents and blobs that were acknowledged are there,
// transactions are whole or were not, the feed tells of each write once and in
// order, and no file belongs to nothing.
func TestDataAndBlobsAreKilled(t *testing.T) {
	w := &killed{t: t, up: sync.NewCond(new(sync.Mutex)), worked: make(chan struct{}), over: make(chan struct{})}
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	w.token = tokenText.FindString(p.line())
	w.set(p.url)
	k := &keeper{killed: w, documents: map[string]int64{}, blobs: map[string]int{}}
	var writers sync.WaitGroup
	for i := range 3 {
		writers.Go(func() { w.produce(i, k.transact) })
	}
	for i := range 2 {
		writers.Go(func() { w.produce(i, k.add) })
	}
	total := max(kills()/5, 5)
	for range total {
		for range 1 + rand.IntN(40) {
			<-w.worked
		}
		w.set("")
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.cmd.Wait()
		p = start(t, dir, nil, "--listen", "127.0.0.1:0")
		w.set(p.url)
	}
	go func() {
		for range w.worked {
		}
	}()
	close(w.over)
	writers.Wait()
	k.judgeDocuments()
	k.judgeBlobs()
	close(w.worked)
	p.stop()
	k.judgeFiles(dir)
	t.Logf("%d kills, %d transactions, %d blobs", total, len(k.documents), len(k.blobs))
}

// keeper writes, and knows what was acknowledged.
type keeper struct {
	*killed
	// wrote guards what is below.
	wrote sync.Mutex
	// documents are the versions of acknowledged transactions' first documents,
	// blobs the sizes of files by their hash.
	documents map[string]int64
	blobs     map[string]int
}

// transact writes two documents, or none. An answer that did not come is asked
// for again, and then finds them there or not.
func (k *keeper) transact(key string) {
	operation := func(id string) string {
		return fmt.Sprintf(`{"op":"put","collection":"c","id":%q,"if_version":0,"document":{"of":%q,"text":%q}}`, id, key, strings.Repeat("x", rand.IntN(20_000)))
	}
	status, text, again := k.certainly("POST", "/api/data/transactions", `{"operations":[`+operation("a-"+key)+","+operation("b-"+key)+`]}`)
	var got struct {
		Results []struct{ Version int64 }
	}
	version := int64(0)
	switch err := json.Unmarshal([]byte(text), &got); {
	case status == 200 && err == nil && len(got.Results) == 2:
		version = got.Results[0].Version
	case status != 412 || !again:
		k.t.Errorf("writing: %d %.200s", status, text)
	}
	k.wrote.Lock()
	defer k.wrote.Unlock()
	k.documents[key] = version
}

// add keeps a file, one in two of which shrinks.
func (k *keeper) add(key string) {
	content := strings.Repeat(key+" ", rand.IntN(20_000)+1)
	kind := "text/plain"
	if rand.IntN(2) == 0 {
		kind = "image/png"
	}
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	status, text, _ := k.certainly("POST", "/api/blobs", content, "Content-Type", kind)
	if status != 201 || !strings.Contains(text, hash) {
		k.t.Errorf("adding: %d %.200s", status, text)
	}
	k.wrote.Lock()
	defer k.wrote.Unlock()
	k.blobs[hash] = len(content)
}

func (k *keeper) judgeDocuments() {
	seen, last := map[string]int64{}, int64(0)
	for {
		status, text := k.ask("GET", fmt.Sprintf("/api/data/changes?limit=1000&after=%d", last), "")
		var feed struct {
			Changes []struct {
				Version int64
				ID, Op  string
			}
		}
		if err := json.Unmarshal([]byte(text), &feed); status != 200 || err != nil {
			k.t.Fatalf("the feed: %d %.200s", status, text)
		}
		if len(feed.Changes) == 0 {
			break
		}
		for _, c := range feed.Changes {
			if c.Version <= last || c.Op != "put" || seen[c.ID] != 0 {
				k.t.Errorf("the feed tells of %+v after %d", c, last)
			}
			seen[c.ID], last = c.Version, c.Version
		}
	}
	for key, version := range k.documents {
		for _, id := range []string{"a-" + key, "b-" + key} {
			status, text := k.ask("GET", "/api/data/collections/c/documents/"+id, "")
			if status != 200 || !strings.Contains(text, fmt.Sprintf(`"version":%d,`, seen[id])) || !strings.Contains(text, `"of":"`+key+`"`) {
				k.t.Errorf("%s: %d %.100s", id, status, text)
			}
		}
		if version != 0 && seen["a-"+key] != version {
			k.t.Errorf("a-%s was written as version %d, and is %d", key, version, seen["a-"+key])
		}
	}
	if len(seen) != 2*len(k.documents) {
		k.t.Errorf("%d documents of %d transactions", len(seen), len(k.documents))
	}
}

func (k *keeper) judgeBlobs() {
	for hash, size := range k.blobs {
		status, content := k.ask("GET", "/api/blobs/"+hash, "")
		if status != 200 || len(content) != size || fmt.Sprintf("%x", sha256.Sum256([]byte(content))) != hash {
			k.t.Errorf("blob %s of %d bytes: %d, %d bytes", hash, size, status, len(content))
		}
	}
	if status, text := k.ask("POST", "/api/blobs/sweep", ""); status != 200 {
		k.t.Errorf("sweeping: %d %s", status, text)
	}
}

// judgeFiles sees that each file is a blob's. An upload that a kill ended waits
// for its sender, who may not come: its part is what else there may be.
func (k *keeper) judgeFiles(dir string) {
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if name := strings.TrimSuffix(filepath.Base(path), ".zst"); err == nil && !d.IsDir() && k.blobs[name] == 0 {
			k.t.Errorf("%s belongs to nothing", path)
		}
		return err
	})
	if err != nil {
		k.t.Error(err)
	}
}
