//! A node of socketioxide with its Redis adapter: `sub` joins a room, `pub` sends to it.

use axum::serve::ListenerExt;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide_redis::drivers::redis::redis_client;
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};

async fn connected<A: Adapter>(socket: SocketRef<A>) {
    socket.on("sub", async |socket: SocketRef<A>, Data::<String>(room), done: AckSender<A>| {
        socket.join(room);
        let _ = done.send(&());
    });
    socket.on("pub", async |io: SocketIo<A>, Data::<(String, String)>((room, data))| {
        let _ = io.to(room).emit("m", &data).await;
    });
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, redis_port] = words.as_slice() else { return Err("usage: socketioxide-node PORT REDIS_PORT".into()) };
    let client = redis_client::Client::open(format!("redis://127.0.0.1:{redis_port}?protocol=resp3"))?;
    let adapter = RedisAdapterCtr::new_with_redis(&client).await?;
    let (layer, io) = SocketIo::builder().with_adapter::<RedisAdapter<_>>(adapter).build_layer();
    io.ns("/", connected).await?;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}
