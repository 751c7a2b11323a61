package supervise

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// answerer runs the filter outside of the kernel, which shows calls that no
// test could make on the machine it runs on. The arguments' lower halves are
// what the filter reads.
func answerer(t *testing.T) func(arch, number, argument uint32) uint32 {
	t.Helper()
	vm, err := bpf.NewVM(program())
	if err != nil {
		t.Fatal(err)
	}
	return func(arch, number, argument uint32) uint32 {
		// struct seccomp_data, in the VM's order of bytes.
		data := make([]byte, 64)
		for offset, value := range map[int]uint32{offsetNumber: number, offsetArch: arch, offsetArgument: argument} {
			binary.BigEndian.PutUint32(data[offset:], value)
		}
		got, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(got)
	}
}

const (
	allowed = unix.SECCOMP_RET_ALLOW
	killed  = unix.SECCOMP_RET_KILL_PROCESS
	eperm   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	noproto = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

func TestFilter(t *testing.T) {
	answer := answerer(t)
	for name, c := range map[string]struct{ arch, number, argument, want uint32 }{
		"read":                         {auditArch, unix.SYS_READ, 0, allowed},
		"execve":                       {auditArch, unix.SYS_EXECVE, 0, allowed},
		"read of another architecture": {unix.AUDIT_ARCH_I386, unix.SYS_READ, 0, killed},
		"read of x32":                  {auditArch, 1<<30 | unix.SYS_READ, 0, killed},
		"a thread":                     {auditArch, unix.SYS_CLONE, unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND, allowed},
		"clone3":                       {auditArch, unix.SYS_CLONE3, 0, enosys},
		"unshare":                      {auditArch, unix.SYS_UNSHARE, 0, eperm},
		"setns":                        {auditArch, unix.SYS_SETNS, 0, eperm},
		"add_key":                      {auditArch, unix.SYS_ADD_KEY, 0, eperm},
		"request_key":                  {auditArch, unix.SYS_REQUEST_KEY, 0, eperm},
		"keyctl":                       {auditArch, unix.SYS_KEYCTL, 0, eperm},
		"bpf":                          {auditArch, unix.SYS_BPF, 0, eperm},
		"perf_event_open":              {auditArch, unix.SYS_PERF_EVENT_OPEN, 0, eperm},
		"userfaultfd":                  {auditArch, unix.SYS_USERFAULTFD, 0, eperm},
		"io_uring_setup":               {auditArch, unix.SYS_IO_URING_SETUP, 0, eperm},
		"io_uring_enter":               {auditArch, unix.SYS_IO_URING_ENTER, 0, eperm},
		"io_uring_register":            {auditArch, unix.SYS_IO_URING_REGISTER, 0, eperm},
		"ptrace":                       {auditArch, unix.SYS_PTRACE, 0, eperm},
		"process_vm_readv":             {auditArch, unix.SYS_PROCESS_VM_READV, 0, eperm},
		"process_vm_writev":            {auditArch, unix.SYS_PROCESS_VM_WRITEV, 0, eperm},
		"mount":                        {auditArch, unix.SYS_MOUNT, 0, eperm},
		"fsopen":                       {auditArch, unix.SYS_FSOPEN, 0, eperm},
		"init_module":                  {auditArch, unix.SYS_INIT_MODULE, 0, eperm},
		"finit_module":                 {auditArch, unix.SYS_FINIT_MODULE, 0, eperm},
		"kexec_load":                   {auditArch, unix.SYS_KEXEC_LOAD, 0, eperm},
		"kexec_file_load":              {auditArch, unix.SYS_KEXEC_FILE_LOAD, 0, eperm},
		"open_by_handle_at":            {auditArch, unix.SYS_OPEN_BY_HANDLE_AT, 0, eperm},
		"fanotify_init":                {auditArch, unix.SYS_FANOTIFY_INIT, 0, eperm},
		"quotactl":                     {auditArch, unix.SYS_QUOTACTL, 0, eperm},
		"move_pages":                   {auditArch, unix.SYS_MOVE_PAGES, 0, eperm},
		"syslog":                       {auditArch, unix.SYS_SYSLOG, 0, eperm},
		"reboot":                       {auditArch, unix.SYS_REBOOT, 0, eperm},
		"clock_settime":                {auditArch, unix.SYS_CLOCK_SETTIME, 0, eperm},
	} {
		if got := answer(c.arch, c.number, c.argument); got != c.want {
			t.Errorf("%s: %#x, want %#x", name, got, c.want)
		}
	}
	for _, flag := range []uint32{
		unix.CLONE_NEWUSER, unix.CLONE_NEWNS, unix.CLONE_NEWNET, unix.CLONE_NEWPID,
		unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWTIME,
	} {
		if got := answer(auditArch, unix.SYS_CLONE, flag|uint32(unix.SIGCHLD)); got != eperm {
			t.Errorf("clone with %#x: %#x", flag, got)
		}
	}
	for family := uint32(0); family < unix.AF_MAX; family++ {
		want := noproto
		switch family {
		case unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK:
			want = allowed
		}
		if got := answer(auditArch, unix.SYS_SOCKET, family); got != want {
			t.Errorf("socket of family %d: %#x, want %#x", family, got, want)
		}
	}
}
