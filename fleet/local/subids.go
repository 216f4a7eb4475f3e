package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// subIDs are the ids that an ordinary user may give to others than itself: subuid(5), subgid(5).
// Programs of root's, newuidmap(1) and newgidmap(1), do it.
type subIDs struct{ uids, gids int } // the first of each

// findSubIDs returns those of this process's user, or why there are none.
func findSubIDs() (*subIDs, error) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, err
		}
	}
	id := strconv.Itoa(os.Getuid())
	name := id
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	uids, err := readSubIDs("/etc/subuid", name, id)
	if err != nil {
		return nil, err
	}
	gids, err := readSubIDs("/etc/subgid", name, id)
	if err != nil {
		return nil, err
	}
	return &subIDs{uids, gids}, nil
}

// readSubIDs returns the first range of a user that is large enough for a sandbox.
func readSubIDs(file, name, id string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || fields[0] != name && fields[0] != id {
			continue
		}
		first, bad := strconv.Atoi(fields[1])
		count, worse := strconv.Atoi(fields[2])
		if bad == nil && worse == nil && count >= idsPerSandbox-1 {
			return first, nil
		}
	}
	return 0, fmt.Errorf("%s gives user %s no %d ids", file, name, idsPerSandbox-1)
}

// users makes this process's user root inside, and the others those that it may give.
func (s *subIDs) users(code, group int) users {
	ids := func(own, first int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: own, Size: 1}, {ContainerID: 1, HostID: first, Size: idsPerSandbox - 1}}
	}
	return users{uids: ids(os.Geteuid(), s.uids), gids: ids(os.Getegid(), s.gids), code: code, group: group, setUID: true, helped: true}
}

// mapIDs gives a process the ids of the users.
func mapIDs(pid int, u users) error {
	return errors.Join(mapWith("newuidmap", pid, u.uids), mapWith("newgidmap", pid, u.gids))
}

func mapWith(program string, pid int, ids []syscall.SysProcIDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, m := range ids {
		args = append(args, strconv.Itoa(m.ContainerID), strconv.Itoa(m.HostID), strconv.Itoa(m.Size))
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w (%s)", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}
