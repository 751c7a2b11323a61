package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// blockBytes is the size of every block, which moto says is 512:
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html
const blockBytes = 512 << 10

// snapshot is one that is written by EBS direct.
type snapshot struct {
	size   string
	blocks map[int][]byte
	// sums are those of the blocks, as they were checked when they were put.
	sums      map[int][sha256.Size]byte
	completed bool
}

// ebsAction is the API's name of a request:
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_Operations.html
func ebsAction(r *http.Request) string {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(path) == 1:
		return "StartSnapshot"
	case len(path) == 3 && path[1] == "completion":
		return "CompleteSnapshot"
	case len(path) == 4 && r.Method == http.MethodPut:
		return "PutSnapshotBlock"
	case len(path) == 4:
		return "GetSnapshotBlock"
	case len(path) == 3 && path[2] == "changedblocks":
		return "ListChangedBlocks"
	}
	return "ListSnapshotBlocks"
}

func (c *Cloud) ebs(in *call) (answer, *refusal) {
	path := strings.Split(strings.Trim(in.r.URL.Path, "/"), "/")
	switch in.action {
	case "StartSnapshot":
		return c.startSnapshot(in)
	case "PutSnapshotBlock":
		return c.putBlock(in, path[1], path[3])
	case "CompleteSnapshot":
		return c.completeSnapshot(in, path[2])
	}
	return c.forward(in)
}

// startSnapshot keeps the client token, which is part of the body:
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html
func (c *Cloud) startSnapshot(in *call) (answer, *refusal) {
	var asked struct {
		ClientToken string
		VolumeSize  int64
	}
	if err := json.Unmarshal(in.body, &asked); err != nil {
		return answer{}, refuse(http.StatusBadRequest, "ValidationException", "%s", err)
	}
	c.run.Lock()
	defer c.run.Unlock()
	name := "StartSnapshot " + asked.ClientToken
	c.mu.Lock()
	known, ok := c.tokens[name]
	c.mu.Unlock()
	switch {
	case ok && known.parameters != string(in.body):
		return answer{}, refuse(http.StatusConflict, "ConflictException", "The client token was used with other parameters.")
	case ok && asked.ClientToken != "":
		return known.answer, nil
	}
	out, refused := c.forward(in)
	if refused != nil || out.status/100 != 2 {
		return out, refused
	}
	var made map[string]any
	if err := json.Unmarshal(out.body, &made); err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalServerException", "%s", err)
	}
	made["BlockSize"] = blockBytes
	id, _ := made["SnapshotId"].(string)
	body, err := json.Marshal(made)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalServerException", "%s", err)
	}
	out.body = body
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots[id] = &snapshot{size: strconv.FormatInt(asked.VolumeSize, 10), blocks: map[int][]byte{}, sums: map[int][sha256.Size]byte{}}
	c.tokens[name] = token{string(in.body), out}
	return out, nil
}

// pending is a snapshot that blocks can be put into. The caller holds c.mu.
func (c *Cloud) pending(id string) (*snapshot, *refusal) {
	s := c.snapshots[id]
	switch {
	case s == nil:
		return nil, refuse(http.StatusNotFound, "ResourceNotFoundException", "The snapshot '%s' does not exist.", id)
	case s.completed:
		return nil, refuse(http.StatusConflict, "ConflictException", "The snapshot '%s' is complete.", id)
	}
	return s, nil
}

// putBlock checks a block's size and its checksum:
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html
func (c *Cloud) putBlock(in *call, id, index string) (answer, *refusal) {
	sum := sha256.Sum256(in.body)
	n, err := strconv.Atoi(index)
	h := in.r.Header
	switch {
	case err != nil || n < 0:
		return answer{}, refuse(http.StatusBadRequest, "ValidationException", "The block index is %q.", index)
	case len(in.body) != blockBytes || h.Get("X-Amz-Data-Length") != strconv.Itoa(blockBytes):
		return answer{}, refuse(http.StatusBadRequest, "ValidationException", "The block has %d bytes.", len(in.body))
	case h.Get("X-Amz-Checksum-Algorithm") != "SHA256" || h.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(sum[:]):
		return answer{}, refuse(http.StatusBadRequest, "ValidationException", "The checksum is not that of the block.")
	}
	c.mu.Lock()
	s, refused := c.pending(id)
	if refused == nil {
		s.blocks[n], s.sums[n] = in.body, sum
	}
	c.mu.Unlock()
	if refused != nil {
		return answer{}, refused
	}
	return c.forward(in)
}

// completeSnapshot checks the number of blocks and the checksum of all of them:
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_CompleteSnapshot.html
func (c *Cloud) completeSnapshot(in *call, id string) (answer, *refusal) {
	c.mu.Lock()
	s, refused := c.pending(id)
	if refused == nil {
		refused = s.check(in.r.Header)
	}
	if refused == nil {
		s.completed = true
	}
	c.mu.Unlock()
	if refused != nil {
		return answer{}, refused
	}
	return c.forward(in)
}

func (s *snapshot) check(h http.Header) *refusal {
	var indexes []int
	for i := range s.blocks {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	all := sha256.New()
	for _, i := range indexes {
		sum := s.sums[i]
		all.Write(sum[:])
	}
	switch {
	case h.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(s.blocks)):
		return refuse(http.StatusBadRequest, "ValidationException", "%d blocks were put, not %s.", len(s.blocks), h.Get("X-Amz-Changedblockscount"))
	case h.Get("X-Amz-Checksum") != "" && (h.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR" || h.Get("X-Amz-Checksum") != base64.StdEncoding.EncodeToString(all.Sum(nil))):
		return refuse(http.StatusBadRequest, "ValidationException", "The checksum is not that of the blocks.")
	}
	return nil
}
