//! The undecoded parts of a delivery, and its size.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    transport::JoinedBytes,
    wire::{LongSpan, Span},
};

/// The undecoded parts of a delivery.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryParts {
    /// The bytes from the payload of the method frame on. The spans point into it.
    pub(crate) bytes: Bytes,
    pub(crate) content: ContentLayout,
    pub(crate) tag: u64,
    pub(crate) channel_epoch: u32,
    /// How many messages remain in the queue, for `basic.get`.
    pub(crate) message_count: Option<u32>,
    pub(crate) exchange: Span,
    pub(crate) routing_key: Span,
    pub(crate) redelivered: bool,
    pub(crate) no_ack: bool,
}

/// Where the properties and the body are.
#[derive(Clone, Debug)]
pub(crate) enum ContentLayout {
    /// In [`DeliveryParts::bytes`]: the body came in one frame.
    Contiguous { properties: LongSpan, body: LongSpan },
    /// In buffers of their own: the body came in several frames.
    Separate(Arc<SeparateContent>),
}

#[derive(Debug)]
pub(crate) struct SeparateContent {
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
    /// Counts the buffer of the body.
    pub(crate) _counted: Option<JoinedBytes>,
}

/// Bodies of at least this size are returned as a view of the block that was read. A view of a smaller one
/// would keep much more memory than its size, so that it is copied.
const VIEW_FROM: usize = 4096;

/// What a delivery costs in the mailboxes in addition to its bytes.
const OVERHEAD: usize = 256;

impl DeliveryParts {
    pub(super) fn body(&self) -> &[u8] {
        match &self.content {
            ContentLayout::Contiguous { body, .. } => body.of(&self.bytes),
            ContentLayout::Separate(content) => &content.body,
        }
    }

    pub(super) fn properties(&self) -> &[u8] {
        match &self.content {
            ContentLayout::Contiguous { properties, .. } => properties.of(&self.bytes),
            ContentLayout::Separate(content) => &content.properties,
        }
    }

    /// Returns the body as `Bytes`, copied if it is small.
    pub(super) fn body_bytes(&self) -> Bytes {
        match &self.content {
            ContentLayout::Contiguous { body, .. } if body.of(&self.bytes).len() < VIEW_FROM => {
                Bytes::copy_from_slice(body.of(&self.bytes))
            }
            _ => self.body_view(),
        }
    }

    /// Returns the body as `Bytes`, never copied.
    pub(super) fn body_view(&self) -> Bytes {
        match &self.content {
            ContentLayout::Contiguous { body, .. } => self.bytes.slice_ref(body.of(&self.bytes)),
            ContentLayout::Separate(content) => content.body.clone(),
        }
    }

    pub(super) fn view_len(&self) -> Option<usize> {
        matches!(self.content, ContentLayout::Contiguous { .. }).then(|| self.bytes.len())
    }

    /// Returns the size with which the delivery counts against limits in bytes.
    pub(crate) fn size(&self) -> usize {
        match &self.content {
            ContentLayout::Contiguous { .. } => self.bytes.len() + OVERHEAD,
            ContentLayout::Separate(content) => {
                self.bytes.len() + content.properties.len() + content.body.len() + OVERHEAD
            }
        }
    }
}
