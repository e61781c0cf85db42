/* Two sockets on a machine that has one: the lcores 0 and 1 are on socket 0, all others on 1, and devices by turns. */

int rte_eth_dev_socket_id(unsigned short port) { return port % 2; }

unsigned rte_lcore_to_socket_id(unsigned lcore) { return lcore > 1; }
