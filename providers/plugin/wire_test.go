package plugin

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// filler sets every field of a value, each to another, so that one that is
// forgotten on the wire shows, and one that is taken for another.
type filler struct {
	t *testing.T
	n uint64
}

func (f *filler) fill(v reflect.Value) {
	f.t.Helper()
	f.n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, int64(f.n)).UTC()))
			return
		}
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.String:
		v.SetString(fmt.Sprint("x", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(f.n % (1 << 8))
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		f.fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	default:
		f.t.Fatalf("no value for a %s", v.Type())
	}
}

func filled[T any](t *testing.T) T {
	t.Helper()
	var v T
	(&filler{t: t}).fill(reflect.ValueOf(&v).Elem())
	return v
}

func TestEveryFieldTravels(t *testing.T) {
	machine := filled[providers.Machine](t)
	machine.Power = providers.PowerCrashed
	gotMachine, err := machineFromPB(machineToPB(machine))
	check(t, gotMachine, machine, err)

	request := filled[providers.CreateRequest](t)
	gotRequest, err := createFromPB(createToPB(request))
	check(t, gotRequest, request, err)

	image := filled[providers.Image](t)
	gotImage, err := imageFromPB(imageToPB(image))
	check(t, gotImage, image, err)
	image.Firmware = nil
	gotImage, err = imageFromPB(imageToPB(image))
	check(t, gotImage, image, err)

	info := filled[providers.Info](t)
	check(t, infoFromPB(infoToPB(info)), info, nil)

	offerings := filled[[]providers.Offering](t)
	gotOfferings, err := offeringsFromPB(offeringsToPB(offerings))
	check(t, gotOfferings, offerings, err)
}

func check[T any](t *testing.T, got, want T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryErrorTravels(t *testing.T) {
	for code := range known {
		want := &providers.Error{
			Code: code, Scope: providers.ScopeRegion, Message: "making it", RequestID: "r-1", Hint: "allow it", RetryAfter: 3 * time.Second,
		}
		// A wrapped error travels too.
		got := fromStatus(toStatus(fmt.Errorf("wrapped: %w", want)), providers.CodeUnavailable)
		var e *providers.Error
		if !errors.As(got, &e) || *e != *want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestStrangeErrorsAreInternal(t *testing.T) {
	for name, err := range map[string]error{
		"an error without a code": errors.New("odd"),
		"an unknown code":         &providers.Error{Code: "ODD", Message: "odd", RetryAfter: -1},
		"an unknown scope":        &providers.Error{Code: providers.CodeInternal, Scope: "odd", Message: "odd"},
	} {
		got := fromStatus(toStatus(err), providers.CodeUnavailable)
		var e *providers.Error
		if !errors.As(got, &e) || e.Code != providers.CodeInternal || e.RetryAfter != 0 || providers.ScopeOf(got) != providers.ScopeMachine {
			t.Errorf("%s became %+v", name, got)
		}
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	err := toStatus(providers.Errorf(providers.CodeInvalid, "%s", strings.Repeat("a", 2*maxMessage)))
	if n := len(status.Convert(err).Message()); n != maxMessage {
		t.Errorf("message has %d bytes, want %d", n, maxMessage)
	}
}

// What a cloud says need not be UTF-8, and the wire takes nothing else.
func TestMessagesThatAreNotUTF8Travel(t *testing.T) {
	err := fromStatus(toStatus(providers.Errorf(providers.CodeQuota, "a\xffb")), providers.CodeUnavailable)
	if providers.CodeOf(err) != providers.CodeQuota || err.Error() != "QUOTA: a\uFFFDb" {
		t.Errorf("got %v", err)
	}
}

func FuzzMachineFromPB(f *testing.F) {
	good, err := proto.Marshal(machineToPB(providers.Machine{Power: providers.PowerOn, CreatedAt: time.Unix(1, 0)}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0x22, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.Machine
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		machine, err := machineFromPB(&m)
		if err != nil {
			if !errors.Is(err, errWire) {
				t.Errorf("unexpected kind of error: %v", err)
			}
			return
		}
		if again, err := machineFromPB(machineToPB(machine)); err != nil || !reflect.DeepEqual(again, machine) {
			t.Errorf("does not survive the wire: %+v, %v", machine, err)
		}
	})
}

// The other messages too are refused, or survive the wire.
func FuzzRequestsFromPB(f *testing.F) {
	key := providers.Key{Name: "db", File: providers.File{Path: "/db", SHA256: attest.Digest{3}, Bytes: 7}}
	for _, m := range []proto.Message{
		imageToPB(providers.Image{Release: attest.ReleaseDigest{1}, Path: "/i", SHA256: attest.Digest{2}, Bytes: 9, Architecture: "amd64", SecureBoot: []providers.Key{key}}),
		createToPB(providers.CreateRequest{Installation: "i", Machine: "m", Generation: 3, Spec: providers.Spec{Release: attest.ReleaseDigest{1}, Region: "r", Size: "s", DataBytes: 5, Config: []byte{6}}}),
		offeringsToPB([]providers.Offering{{Region: "r", Size: "s", VCPUs: 2, MemoryBytes: 1 << 30, Available: -1, PricedAt: time.Unix(1, 0)}}),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		survives(t, b, &pb.EnsureImageRequest{}, imageFromPB, imageToPB)
		survives(t, b, &pb.CreateRequest{}, createFromPB, createToPB)
		survives(t, b, &pb.OfferingsResponse{}, offeringsFromPB, offeringsToPB)
	})
}

// survives reads bytes as a message, and what it says once more from its own.
func survives[M proto.Message, V any](t *testing.T, b []byte, m M, from func(M) (V, error), to func(V) M) {
	t.Helper()
	if proto.Unmarshal(b, m) != nil {
		return
	}
	v, err := from(m)
	if err != nil {
		if !errors.Is(err, errWire) {
			t.Errorf("%T: unexpected kind of error: %v", m, err)
		}
		return
	}
	if again, err := from(to(v)); err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("%T does not survive the wire: %+v, %v", m, v, err)
	}
}
