package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// known is what became of an entity, as far as anybody was told.
type known struct {
	// added and deleted were acknowledged, doomed was asked for.
	added, doomed, deleted bool
}

// profiled adds entities to a profile and deletes every other one, until the
// program is killed.
type profiled struct {
	token string
	// mu guards all, by names that say in which order they came.
	mu  sync.Mutex
	all map[string]*known
	// worked has a token for what was acknowledged.
	worked chan struct{}
}

// noteCount is how many facts an entity has, which come and go together.
const noteCount = 20

func (w *profiled) work(p *program) {
	for {
		w.mu.Lock()
		n := len(w.all)
		name, k := fmt.Sprintf("Entity%06dOfTheKilled", n), &known{}
		w.all[name] = k
		w.mu.Unlock()
		var facts []string
		for i := range noteCount {
			facts = append(facts, fmt.Sprintf(`{"subject": "urn:x:%s", "predicate": "urn:x:note", "object": "%s has note %d"}`, name, name, i))
		}
		if !w.sends(p, http.MethodPost, "/api/profile/facts", `{"source": "test", "facts": [`+strings.Join(facts, ",")+`]}`) {
			return
		}
		k.added = true
		w.worked <- struct{}{}
		if n%2 == 0 {
			continue
		}
		k.doomed = true
		if !w.sends(p, http.MethodDelete, "/api/profile/entity?entity=urn:x:"+name, "") {
			return
		}
		k.deleted = true
		w.worked <- struct{}{}
	}
}

// sends reports whether the program did what it was asked.
func (w *profiled) sends(p *program, method, path, body string) bool {
	req, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Killed at any moment of adding and deleting, the profile has what was
// acknowledged, each batch whole; and what is in no answer any more is in no
// file after the next start, whether its deletion was acknowledged or not.
func TestProfileIsKilled(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	w := &profiled{token: p.token(), all: map[string]*known{}, worked: make(chan struct{}, 1000)}
	for range max(kills()/5, 3) {
		running := p
		var working sync.WaitGroup
		for range 2 {
			working.Go(func() { w.work(running) })
		}
		for range 1 + rand.IntN(6) {
			<-w.worked
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.cmd.Wait()
		working.Wait()
		p = start(t, dir, nil, "--listen", "127.0.0.1:0")
		w.judge(t, p, dir)
	}
}

func (w *profiled) judge(t *testing.T, p *program, dir string) {
	t.Helper()
	_, seen, _ := p.ask("GET", "/api/profile/graph", "", "Authorization", "Bearer "+w.token)
	files := everyByte(t, dir)
	there := 0
	for name, k := range w.all {
		notes := strings.Count(seen, name+" has note")
		if notes != 0 && notes != noteCount {
			t.Errorf("%s has %d notes", name, notes)
		}
		if notes > 0 {
			there++
		}
		if k.deleted && notes > 0 || k.added && !k.doomed && notes == 0 {
			t.Errorf("%s: %+v, and has %d notes", name, *k, notes)
		}
		if notes == 0 && bytes.Contains(files, []byte(name)) {
			t.Errorf("%s: %+v, is in no answer and in a file", name, *k)
		}
	}
	if there == 0 {
		t.Errorf("nothing is there: %.200s", seen)
	}
}

// everyByte is all that the files of a directory have.
func everyByte(t *testing.T, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
