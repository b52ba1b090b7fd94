// Steers connections to the open ports of one address to one listening socket.
// Build with go generate. The declarations stand here rather than in headers of the
// machine that compiles, so that only the compiler's version decides what comes out.

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

// From linux/bpf.h, the kernel's interface.
enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_SOCKMAP = 15,
	BPF_SK_LOOKUP_F_REPLACE = 1,
	BPF_SK_LOOKUP_F_NO_REUSEPORT = 2,
	SK_DROP = 0,
	SK_PASS = 1,
};

struct bpf_sock;

struct bpf_sk_lookup {
	__u64 cookie;
	__u32 family;
	__u32 protocol;
	__u32 remote_ip4; // network byte order, as all addresses
	__u32 remote_ip6[4];
	__u32 remote_port;
	__u32 local_ip4;
	__u32 local_ip6[4];
	__u32 local_port; // host byte order
	__u32 ingress_ifindex;
};

struct sk_reuseport_md;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_sk_release)(void *sock) = (void *)86;
static long (*bpf_sk_assign)(void *ctx, void *sk, __u64 flags) = (void *)124;

#define IPPROTO_TCP 6
#define AF_INET 2
#define AF_INET6 10

// Set before loading. address is in network byte order; an IPv4 one is its first
// word.
const volatile __u32 family; // 0: every address of both families
const volatile __u32 any;    // every address of the family
const volatile __u32 address[4];
const volatile __u32 anchor; // the port that the listening socket is bound to

// open_ports has 1 for every open port.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} open_ports SEC(".maps");

// listener holds the listening socket.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} listener SEC(".maps");

// word reads a field of the context with an access of its own: the verifier refuses
// the pointers that a compiler would compute to share one.
#define word(field) (*(const volatile __u32 *)&(field))

static inline int ours(const struct bpf_sk_lookup *ctx)
{
	__u32 ip4 = word(ctx->local_ip4);
	__u32 ip6[4] = {word(ctx->local_ip6[0]), word(ctx->local_ip6[1]), word(ctx->local_ip6[2]), word(ctx->local_ip6[3])};

	if (ctx->protocol != IPPROTO_TCP)
		return 0;
	if (family && ctx->family != family)
		return 0;
	if (any)
		return 1;
	if (ctx->family == AF_INET)
		return ip4 == address[0];
	return ip6[0] == address[0] && ip6[1] == address[1] && ip6[2] == address[2] && ip6[3] == address[3];
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	__u32 port = ctx->local_port, zero = 0;
	__u8 *open;
	void *sk;
	long err;

	if (!ours(ctx))
		return SK_PASS;
	open = bpf_map_lookup_elem(&open_ports, &port);
	if (!open || !*open) // other programs may listen here, but nobody reaches our socket by its own port
		return port == anchor ? SK_DROP : SK_PASS;
	sk = bpf_map_lookup_elem(&listener, &zero);
	if (!sk)
		return SK_DROP;
	// Programs run in the order of attaching, so the newest has the last word.
	err = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_REPLACE | BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

// A socket that closes hands what waits in its queue, and half-way handshakes, to
// another one of its reuseport group if a program of this type is attached (Linux
// 5.14). It selects none, so the kernel picks by hash. New connections do not come
// this way: steer says NO_REUSEPORT.
SEC("sk_reuseport/migrate")
int inherit(struct sk_reuseport_md *ctx)
{
	return SK_PASS;
}

char _license[] SEC("license") = "Apache-2.0";
