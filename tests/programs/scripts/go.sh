# A static Go program: goroutines, loopback, children, signals, a fault.
set -e
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
cat > main.go <<'G'
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

func goroutines() {
	var group sync.WaitGroup
	var lock sync.Mutex
	sum, results := 0, make(chan int, 200)
	for i := 0; i < 200; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 1000; j++ {
				lock.Lock()
				sum += j
				lock.Unlock()
				if j%100 == 0 {
					runtime.Gosched()
				}
			}
			results <- i
		}(i)
	}
	group.Wait()
	fmt.Println(len(results), sum)
}

func loopback() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		peer, _ := listener.Accept()
		io.Copy(peer, peer)
		peer.Close()
	}()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(peer, "echo this")
	peer.(*net.TCPConn).CloseWrite()
	back, err := io.ReadAll(peer)
	fmt.Println(string(back), err)
}

func main() {
	goroutines()
	loopback()
	output, err := exec.Command("sh", "-c", "echo out; echo err >&2; exit 3").CombinedOutput()
	fmt.Printf("%q %v\n", output, err)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-signals)
	sleeper := exec.Command("sleep", "100")
	sleeper.Start()
	sleeper.Process.Signal(syscall.SIGTERM)
	fmt.Println(sleeper.Wait())
	defer func() {
		fmt.Println("recovered", recover())
		os.Exit(5)
	}()
	var nowhere *int
	*nowhere = 1
}
G
HOME=$PWD CGO_ENABLED=0 GOCACHE=${TMPDIR:-/tmp}/xc-test-go GOFLAGS=-mod=mod GOPROXY=off go build -o main main.go
./main
